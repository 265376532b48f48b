"""The line of an equation is the user's own, also where flax, optax or jax emit the operations."""

from __future__ import annotations

import importlib
import inspect
import textwrap
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import costax
from costax.core.source_lines import LibraryLine, is_installed, nearest_line

X = jax.ShapeDtypeStruct((2, 3), jnp.float32)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x)  # dense
        x = jax.nn.gelu(x)  # gelu
        return nn.LayerNorm()(x)  # norm


class NnxBlock(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return jax.nn.silu(self.dense(x))  # nnx


def line_of(comment: str) -> str:
    """Return `file:line` of the line of this file that ends in a comment."""
    lines = Path(__file__).read_text().splitlines()
    return f"{__file__}:{1 + next(n for n, line in enumerate(lines) if line.endswith(f'# {comment}'))}"


def training_step(params, state, x):
    def loss(params):
        y = Block().apply(params, x)
        y = jax.lax.scan(lambda carry, _: (jnp.tanh(carry), None), y, None, length=3)[0]  # scan
        return jnp.sum(jax.nn.softmax(y))  # loss

    updates, state = optax.adam(1e-3).update(jax.grad(loss)(params), state, params)  # adam
    return optax.apply_updates(params, updates), state  # apply


def training_arguments():
    params = jax.eval_shape(Block().init, jax.random.key(0), X)
    return params, jax.eval_shape(optax.adam(1e-3).init, params), X


def test_every_line_of_a_training_step_is_the_users():
    jax.clear_caches()
    lines = costax.analyze(training_step)(*training_arguments()).by_source()
    comments = ("dense", "gelu", "norm", "scan", "loss", "adam", "apply")
    assert set(lines) == {line_of(comment) for comment in comments}
    # The matrix products of the layer, forward and for the gradients of weights: 2 x (2 x 3 x 4).
    assert lines[line_of("dense")].macs == 2 * (2 * 3 * 4)
    assert lines[line_of("scan")].transcendentals == 3 * 2 * 4
    assert all(lines[line_of(comment)].macs == 0 for comment in comments[1:])


def test_every_line_of_a_linen_module_is_the_users():
    params = jax.eval_shape(Block().init, jax.random.key(0), X)
    lines = costax.analyze(jax.jit(Block().apply))(params, X).by_source()
    assert set(lines) == {line_of(comment) for comment in ("dense", "gelu", "norm")}


def test_every_line_of_an_nnx_module_is_the_users():
    assert set(costax.analyze(NnxBlock())(X).by_source()) == {line_of("nnx")}


def test_a_traced_program_has_the_users_lines():
    traced = jax.jit(training_step).trace(*training_arguments())
    assert [line for line in costax.analyze(traced)().by_source() if not line.startswith(__file__)] == []


def test_a_program_of_library_code_alone_has_the_lines_of_the_library():
    """The negative control: the frames of this test, which only calls costax, are not the lines of the program."""
    transform, params = optax.adam(1e-3), {"w": X}
    lines = costax.analyze(transform.update)(params, jax.eval_shape(transform.init, params))
    assert all("site-packages/optax/" in line for line in lines.by_source())


def first(x):
    return jnp.sin(library_loss(x))  # first


def second(x):
    return jnp.cos(library_loss(x))  # second


library_loss = jax.jit(optax.l2_loss)


def test_a_cached_trace_has_the_line_of_the_caller():
    """jax traces `library_loss` once, for `first`; its equations in `second` are those of `second`."""
    jax.clear_caches()
    assert set(costax.analyze(first)(X).by_source()) == {line_of("first")}
    assert set(costax.analyze(second)(X).by_source()) == {line_of("second")}


def test_loops_and_branches_are_placed_at_the_users_line():
    def root(x):
        return jax.scipy.sparse.linalg.cg(lambda v: 2 * v, x)[0]  # cg

    analysis = costax.analyze(root)(X)
    assert {unknown.source for unknown in analysis.unknowns} == {line_of("cg")}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of the user in site-packages, whose model is of flax."""
    folder = tmp_path / "lib" / "python3.11" / "site-packages" / "mylib_of_costax"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "model.py").write_text(
        textwrap.dedent("""
        import flax.linen as nn
        import jax, optax

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                return jax.nn.relu(nn.Dense(4)(x))

        def clipped(x):
            return optax.clip_by_global_norm(1.0).update({"x": x}, optax.EmptyState())[0]
        """).strip()
    )
    monkeypatch.syspath_prepend(str(folder.parent))
    return importlib.import_module("mylib_of_costax.model")


def test_the_installed_package_of_the_target_is_the_users(installed):
    net = installed.Net()
    params = jax.eval_shape(net.init, jax.random.key(0), X)
    for target, args, line in ((net.apply, (params, X), 7), (net, (X,), 7), (jax.jit(installed.clipped), (X,), 10)):
        assert set(costax.analyze(target)(*args).by_source()) == {f"{installed.__file__}:{line}"}


def test_the_differences_from_xla_are_placed_at_the_users_lines():
    comparison = costax.compare(training_step)(*training_arguments())
    placed = {delta.source for delta in comparison.deltas if delta.address}
    assert placed
    assert placed <= set(comparison.jaxpr.by_source())


def test_a_compiled_module_has_the_users_lines():
    compiled = jax.jit(training_step).lower(*training_arguments()).compile()
    lines = {line for line in costax.analyze(compiled)().by_source() if line}
    assert line_of("dense") in lines
    assert all(line.startswith(__file__) for line in lines)


@pytest.mark.once
@pytest.mark.parametrize(
    ("file", "installed"),
    [
        ("/home/me/project/model.py", False),
        ("/home/me/project/.venv/lib/python3.12/site-packages/flax/linen/linear.py", True),
        ("/usr/lib/python3/dist-packages/numpy/core.py", True),
        ("C:\\Python\\Lib\\site-packages\\optax\\base.py", True),
        (inspect.getfile(inspect), True),
        (np.__file__, True),
        (__file__, False),
        ("<stdin>", False),
        ("<ipython-input-3-0a1b>", False),
        ("<python-input-0>", False),
        ("<frozen importlib._bootstrap>", True),
        ("<attrs generated init m.Block>", True),
    ],
)
def test_installed_files(file, installed):
    assert is_installed(file) == installed


@pytest.mark.once
def test_the_nearest_line_is_the_innermost_of_the_user():
    library, outer_library = LibraryLine("flax/linear.py:1"), LibraryLine("optax/base.py:2")
    assert nearest_line("model.py:3", "train.py:4") == "model.py:3"
    assert nearest_line(library, "train.py:4") == "train.py:4"
    assert nearest_line(library, outer_library) == library
    assert nearest_line("", outer_library) == outer_library
