"""Programs of a second kind: real ones, mutated by a seed.

A seed chooses a program (of the corpus, of `examples` with small sizes, of `libraries`) and a few mutations:
transformations of jax, loops and branches, other dtypes and shapes, compositions. A mutation that jax cannot trace, or
that makes the program large, is left out. `programs(seed)` is the same program for the same seed.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax

from mutations.drafts import MUTATIONS, Draft, is_small, warnings_ignored
from mutations.sources import random_source

for _family in ("examples", "libraries", "derivatives", "control", "specs", "functions", "arguments"):
    import_module(f"{__name__}.{_family}")


def programs(seed: int) -> tuple[str, Callable[..., Any], tuple[Any, ...]]:
    """Return the program of a seed: its name, a function, and its abstract arguments."""
    rng = random.Random(seed)
    drafts = [random_source(rng)]
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
        # The next choices must not depend on how many of the earlier ones were left out.
        drafts.append(_mutated(random.Random(rng.random()), drafts[-1]))
    return next(draft for draft in reversed(drafts) if _lowers(draft))


def _mutated(rng: random.Random, draft: Draft) -> Draft:
    """Return the draft after the first mutation, in random order, that makes another small program of it."""
    for name in rng.sample(sorted(MUTATIONS), len(MUTATIONS)):
        # Libraries raise errors of their own where a program does not fit its new arguments.
        with contextlib.suppress(Exception):
            fn, args = MUTATIONS[name](random.Random(rng.random()), draft)
            mutated = Draft(f"{draft.name} | {name}", fn, args)
            if is_small(mutated):
                return mutated
    return draft


def _lowers(draft: Draft) -> bool:
    """Say whether jax lowers a program; it has no decomposition of matrices of float16, for example."""
    try:
        with warnings_ignored():
            jax.jit(draft.fn).lower(*draft.args)
    except (NotImplementedError, TypeError, ValueError):
        return False
    return True
