"""Pallas kernels: what stands inside one, traced without the device that would run it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

import costax

ROWS, COLUMNS, STEPS = 8, 128, 5


def call(kernel, *arrays, scratch=(), in_specs=None, **options):
    block = pl.BlockSpec((ROWS, COLUMNS), lambda i: (i, 0))
    return pl.pallas_call(
        kernel,
        grid=(STEPS,),
        in_specs=in_specs or [block] * len(arrays),
        out_specs=block,
        out_shape=jax.ShapeDtypeStruct((STEPS * ROWS, COLUMNS), jnp.float32),
        scratch_shapes=scratch,
        **options,
    )(*arrays)


def parts(kernel, **options):
    x = jax.ShapeDtypeStruct((STEPS * ROWS, COLUMNS), jnp.float32)
    return costax.analyze(lambda x: call(kernel, x, **options))(x).by_primitive()


BLOCK = ROWS * COLUMNS


def test_loads_and_stores_move_a_block_a_step():
    def kernel(x, out):
        out[...] = jnp.tanh(x[...])

    found = parts(kernel)
    assert found["tanh"].transcendentals == STEPS * BLOCK
    assert found["get"].bytes_unfused == STEPS * 2 * BLOCK * 4
    assert found["swap"].bytes_unfused == STEPS * 2 * BLOCK * 4


def test_a_load_of_a_row_moves_the_row():
    def kernel(x, out):
        out[pl.ds(0, 1), :] = x[pl.ds(3, 1), :]

    assert parts(kernel)["get"].bytes_written == STEPS * COLUMNS * 4


def test_where_a_step_stands_is_free():
    def kernel(x, out):
        out[...] = x[...] * pl.program_id(0).astype(jnp.float32)

    found = parts(kernel)
    assert found["program_id"] == costax.Cost()
    assert found["mul"].flops == STEPS * BLOCK


def test_a_reciprocal_is_a_division():
    # Pallas moved it to its TPU part with jax 0.12.
    reciprocal = getattr(pltpu, "reciprocal", None) or pl.reciprocal

    def kernel(x, out):
        out[...] = reciprocal(x[...], approx=True)

    assert parts(kernel)["reciprocal"].flops == STEPS * BLOCK


def test_a_branch_that_runs_in_one_step_is_counted_once():
    def kernel(x, out):
        @pl.when(pl.program_id(0) == 0)
        def _():
            out[...] = x[...] + 1

    assert parts(kernel)["add"].flops == BLOCK


def test_scoped_memory_runs_its_function():
    def kernel(x, out):
        def inside(scratch):
            scratch[...] = x[...] * 2
            out[...] = scratch[...]

        pl.run_scoped(inside, pltpu.VMEM((ROWS, COLUMNS), jnp.float32))

    assert parts(kernel)["mul"].flops == STEPS * BLOCK


@pytest.mark.parametrize("rows", [ROWS, 2])
def test_a_copy_moves_the_part_that_it_names_and_its_wait_nothing(rows):
    def kernel(x, out, scratch, semaphore):
        part = pl.ds(pl.program_id(0) * ROWS, rows)
        copy = pltpu.make_async_copy(x.at[part], scratch.at[pl.ds(0, rows)], semaphore)
        copy.start()
        copy.wait()
        out[...] = scratch[...]

    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    scratch = [pltpu.VMEM((ROWS, COLUMNS), jnp.float32), pltpu.SemaphoreType.DMA]
    found = parts(kernel, scratch=scratch, in_specs=[anywhere])
    assert found["dma_start"].bytes_unfused == STEPS * 2 * rows * COLUMNS * 4
    assert found["dma_start"].collective_bytes == 0
    assert found["dma_wait"] == costax.Cost()


def test_a_copy_to_another_device_sends_its_bytes():
    def kernel(x, out, send, receive):
        copy = pltpu.make_async_remote_copy(x, out, send, receive, device_id=1)
        copy.start()
        copy.wait()

    semaphores = [pltpu.SemaphoreType.DMA] * 2
    assert parts(kernel, scratch=semaphores)["dma_start"].collective_bytes == STEPS * BLOCK * 4
