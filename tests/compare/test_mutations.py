"""Mutated programs: the same for the same seed, other ones for other seeds, and all of them compile."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import mutations
from mutations import drafts, sources

HELPERS = Path(mutations.__file__).parents[1]


def jaxpr(seed: int) -> str:
    _, fn, args = mutations.programs(seed)
    # The jaxpr shows functions with their addresses.
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(fn)(*args)))


@pytest.mark.once
@pytest.mark.slow
def test_a_seed_gives_the_same_program_in_another_process():
    seeds = (3, 14, 15)
    program = f"import mutations; print([mutations.programs(seed)[0] for seed in {seeds}])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=HELPERS, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([mutations.programs(seed)[0] for seed in seeds])
    assert jaxpr(seeds[0]) == jaxpr(seeds[0])


@pytest.mark.once
@pytest.mark.slow
def test_seeds_give_different_programs():
    assert len({jaxpr(seed) for seed in range(20)}) >= 15


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Some donated buffers")
@pytest.mark.parametrize("seed", range(10))
def test_every_program_compiles(seed):
    _, fn, args = mutations.programs(seed)
    jax.jit(fn).lower(*args).compile()


def test_every_source_is_small():
    families = {name.split("/")[0] for name in sources.sources()}
    assert {"examples", "layers", "control"} <= families
    for name in sources.SOURCES:
        if name.startswith(("examples/", "flax/", "haiku/", "equinox/", "optax/", "diffrax/", "numpyro/", "jraph/")):
            assert drafts.is_small(sources.made(name)), name


@pytest.mark.parametrize("name", sorted(drafts.MUTATIONS))
def test_every_mutation_applies_to_a_program_of_two_arguments(name):

    x = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    counts = jax.ShapeDtypeStruct((3,), jnp.int32)
    draft = drafts.Draft("affine", lambda x, w, n: (jnp.sin(x) @ x.T * n[0], w + 1), (x, x, counts))
    fn, args = drafts.MUTATIONS[name](random.Random(1), draft)
    assert jax.tree.leaves(jax.eval_shape(fn, *args))
