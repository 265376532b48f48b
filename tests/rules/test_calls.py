"""Calls that only some programs, or some versions of jax, have: each runs its body once."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax._src import hijax

import costax

SQUARE = "f32[8,8]"
MACS = 8 * 8 * 8


def square(x):
    return x @ x


def optional(module: str, name: str):
    """Return something that this version of jax may not have; skip where it has not."""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    return found if found is not None else pytest.skip(f"this jax has no {module}.{name}")


def labels(analysis) -> set[str]:
    return {node.label for _, _, node in analysis.tree.walk()}


def check(function, primitive: str, macs: int = MACS):
    analysis = costax.analyze(function)(costax.spec(SQUARE))
    assert primitive in labels(analysis)
    assert analysis.total.macs == macs


def test_a_composite_runs_its_decomposition():
    check(lambda x: lax.composite(square, "my.square")(x), "composite")


def test_metadata_changes_no_count():
    wrap = optional("jax.experimental.scheduling_groups", "xla_metadata_call")
    check(wrap(square, kind="forward"), "xla_metadata_call")


def test_a_computation_on_the_host_is_counted():
    name = "compute_on2" if hasattr(importlib.import_module("jax._src.compute_on"), "compute_on2") else "compute_on"
    compute_on = optional("jax._src.compute_on", name)
    space = jax.memory.Space.Device
    check(compute_on(square, compute_type="device_host", out_memory_spaces=space), "compute_on")


def test_a_fused_call_runs_its_body():
    fused = optional("jax.experimental.fused", "fused")
    check(fused(out_spaces=(jax.memory.Space.Device,))(lambda x: (square(x),)), "fused_call")


def test_a_fusible_function_runs_its_body():
    fusible = optional("jax.experimental.pallas.fuser", "fusible")

    def squared(x, out):
        y = x() @ x()
        return y if out is None else out(y)

    analysis = costax.analyze(fusible(squared))(costax.spec(SQUARE))
    assert analysis.total.macs == MACS


def test_dead_code_of_a_function_with_a_rule_of_its_own_is_not_counted():
    custom_dce = optional("jax.experimental.custom_dce", "custom_dce")

    @custom_dce
    def both(x):
        return x @ x, x + 1

    @both.def_dce
    def live(used, x):
        return x @ x if used[0] else None, x + 1 if used[1] else None

    check(lambda x: both(x), "custom_dce_call")
    check(lambda x: both(x)[1], "custom_dce_call", macs=0)


def test_the_forward_pass_that_remat_keeps_is_counted_once():
    @jax.custom_vjp
    def f(x):
        return square(x)

    f.defvjp(lambda x: (square(x), x), lambda x, g: (g @ x,), optimize_remat=True)
    total = costax.analyze(lambda x: jax.vjp(f, x)[0])(costax.spec(SQUARE)).total
    assert total.macs == MACS


def test_a_primitive_of_higher_types_runs_its_expansion():
    base = next(getattr(hijax, name) for name in ("VJPHiPrimitive", "HiPrim") if hasattr(hijax, name))

    class Square(base):
        def __init__(self, aval):
            self.in_avals, self.out_aval, self.params = (aval,), aval, {}
            super().__init__()

        def expand(self, x):
            return square(x)

    check(lambda x: Square(jax.typeof(x))(x), "call_hi_primitive")


def test_numpy_functions_count_alike_whatever_they_are_made_of():
    # From jax 0.12 on some of jax.numpy are primitives of higher types.
    found = costax.analyze(lambda x: jnp.searchsorted(x[0], x[1]))(costax.spec(SQUARE))
    assert found.exact
    assert found.total.of_kind("compare") >= 8 * 3  # log2(8) comparisons for each of 8 values


def test_every_device_of_a_pmap_runs_its_body():
    analysis = costax.analyze(jax.pmap(lambda x: lax.psum(square(x), "i"), axis_name="i"))(costax.spec("f32[1,8,8]"))
    assert analysis.total.macs == MACS


@pytest.mark.filterwarnings("ignore:jax.experimental.pallas.core_map is deprecated")
def test_cores_of_a_device_share_a_kernel():
    pl = importlib.import_module("jax.experimental.pallas")
    tpu = importlib.import_module("jax.experimental.pallas.tpu")
    mesh = (
        tpu.TensorCoreMesh(axis_name="core", num_cores=2)
        if hasattr(tpu, "TensorCoreMesh")
        else tpu.create_tensorcore_mesh("core", num_cores=2)
    )

    def doubled(x):
        def inside(refs):
            source, target = refs

            @pl.core_map(mesh)
            def _():
                target[...] = source[...] * 2

        return pl.run_state(inside)((x, jnp.zeros_like(x)))[1]

    analysis = costax.analyze(doubled)(costax.spec(SQUARE))
    assert labels(analysis) & {"core_map", "mpmd_map"}
    assert analysis.by_primitive()["mul"].flops == 2 * 8 * 8
