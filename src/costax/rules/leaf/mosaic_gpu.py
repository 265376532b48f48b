"""Primitives of Mosaic GPU kernels: products of tensor cores, copies between memories, synchronisation."""

from __future__ import annotations

from math import prod
from typing import Any

from costax import _jax
from costax.core import dtypes
from costax.core.cost import Cost, Count
from costax.core.equation import Equation
from costax.core.polynomial import magnitude
from costax.errors import Foreign, Uncountable
from costax.rules.leaf.state import loaded
from costax.rules.registry import cost_rule, free, no_traffic
from costax.rules.traits import ELEMENTWISE, IDENTITY, NO_TRAITS, OPAQUE, REDUCTION, VIEW, Traits


def accumulated(eqn: Equation) -> tuple[Count, Count]:
    """The factors and the accumulator are read, the accumulator is written."""
    accumulator, a, b = eqn.params["parts"]
    return accumulator.nbytes + a.nbytes + b.nbytes, accumulator.nbytes


@cost_rule("wgmma", "wgmma_ref", traffic=accumulated, traits=Traits(in_place=True))
def wgmma(eqn: Equation) -> Cost:
    """A product of a warpgroup, added to its accumulator.

    macs = m * n * k, (m, k) x (k, n) + (m, n).
    XLA: inside a custom call, -1 FLOP.
    """
    accumulator, a, b = eqn.params["parts"]
    # (m, k) x (k, n) -> (m, n)
    dtype = dtypes.mixed(a.dtype, b.dtype, accumulator=accumulator.dtype)
    return Cost.macs_of(dtype, accumulator.size * a.shape[-1])


@cost_rule("tcgen05_mma", traffic=accumulated, traits=Traits(in_place=True))
def tcgen05_mma(eqn: Equation) -> Cost:
    """A product of the tensor cores of Blackwell GPUs, added to the accumulator in tensor memory.

    macs = m * n * k, with m and n of the accumulator; twice that if two blocks share the product (`collective_axis`),
    because then the operands are half of it and one of the two blocks issues it. k is that of the stored left factor:
    of a factor with structured sparsity (2 of 4) the zeros are not multiplied.
    XLA: inside a custom call, -1 FLOP.
    """
    accumulator, a, b = eqn.params["parts"]
    blocks = 1 if eqn.params["collective_axis"] is None else 2
    # blocks * (m, k) x (k, n) -> blocks * (m, n)
    dtype = dtypes.mixed(a.dtype, b.dtype, accumulator=accumulator.dtype)
    return Cost.macs_of(dtype, blocks * accumulator.size * a.shape[-1])


@cost_rule("mma", traits=NO_TRAITS)
def mma(eqn: Equation) -> Cost:
    """A product of values in registers, added to an accumulator in registers.

    macs = m * n * k, (m, k) x (k, n) + (m, n).
    XLA: inside a custom call, -1 FLOP.
    """
    accumulator, a, b = eqn.inputs
    # (m, k) x (k, n) -> (m, n)
    dtype = dtypes.mixed(a.dtype, b.dtype, accumulator=accumulator.dtype)
    return Cost.macs_of(dtype, accumulator.size * a.shape[-1])


def fetched(eqn: Equation) -> tuple[Count, Count]:
    """The part is read from global memory and written. Blocks that share a read (`collective_axes`) split it."""
    source, *target = eqn.params["parts"]
    blocks = prod(eqn.axis_sizes.get(axis, 1) for axis in _jax.copies_of_one_part(eqn.params))
    part = -(-source.nbytes // blocks)
    return part, target[0].nbytes if target else part


free(
    "copy_gmem_to_smem",
    "async_prefetch",
    because="A part of an array moves from global memory to the memory of a block, or to the cache: it is read and "
    "written, bytes = 2 * part. XLA: inside a custom call.",
    traffic=fetched,
    traits=Traits(in_place=True),
)


def copied(eqn: Equation) -> tuple[Count, Count]:
    """The part is read and written; a copy that reduces also reads its target."""
    source, target, *_ = eqn.params["parts"]
    return source.nbytes + (target.nbytes if eqn.params.get("reduction_op") else 0), target.nbytes


@cost_rule("copy_smem_to_gmem", traffic=copied, traits=Traits(in_place=True))
def copy_smem_to_gmem(eqn: Equation) -> Cost:
    """A part of an array moves to global memory: bytes = 2 * part. With `reduction_op`, one operation for each element.

    A copy with a condition of its own is counted as if the condition held.
    XLA: inside a custom call.
    """
    source, *_ = eqn.params["parts"]
    return Cost.arithmetic(source.dtype, source.size) if eqn.params.get("reduction_op") else Cost()


free(
    "async_copy_scales_to_tmem",
    "async_copy_smem_to_tmem",
    "async_copy_sparse_metadata_to_tmem",
    because="A part of an array moves to tensor memory: bytes = 2 * part. XLA: inside a custom call.",
    traffic=copied,
    traits=Traits(in_place=True),
)


def first_stored(eqn: Equation) -> tuple[Count, Count]:
    """The value, which is the first operand, is read and written."""
    return eqn.inputs[0].nbytes, eqn.inputs[0].nbytes


def second_stored(eqn: Equation) -> tuple[Count, Count]:
    """The value, which is the second operand, is read and written."""
    return eqn.inputs[1].nbytes, eqn.inputs[1].nbytes


free(
    "async_load",
    "load",
    "wgmma_accumulator_deref",
    "wgmma_accumulator_deref_p",
    because="A part of a reference is read to registers: bytes = 2 * out + indices. XLA: inside a custom call.",
    traffic=loaded,
    traits=Traits(partial=True),
)
free(
    "async_store_tmem",
    "store",
    "wgmma_accumulator_store",
    "wgmma_accumulator_store_p",
    because="A value is written to a reference: bytes = 2 * value. XLA: inside a custom call.",
    traffic=second_stored,
    traits=Traits(in_place=True),
)


@cost_rule("async_store_smem", "multimem_store", traffic=first_stored, traits=Traits(in_place=True))
def remote_store(eqn: Equation) -> Cost:
    """A value is written to the memory of other blocks or devices: bytes = 2 * value; sent to devices once.

    sent = value for `multimem_store`, which the switch copies to every device.
    XLA: inside a custom call.
    """
    value = eqn.inputs[0]
    return Cost.sent(value.dtype, value.nbytes) if eqn.name == "multimem_store" else Cost()


@cost_rule("multimem_load_reduce", traffic=loaded, traits=Traits(partial=True))
def multimem_load_reduce(eqn: Equation) -> Cost:
    """The parts of n devices are reduced in the switch and read: n - 1 operations for each element.

    Raises Uncountable if the size of the mesh axis is not in the program.
    XLA: inside a custom call.
    """
    axes: Any = eqn.params["collective_axes"]
    names: tuple[Any, ...] = (axes,) if isinstance(axes, str) else tuple(axes)
    unknown = [str(name) for name in names if name not in eqn.axis_sizes]
    if unknown:
        raise Uncountable(f"reduces over the axis {unknown[0]!r}, whose size is not in the program")
    devices = prod(eqn.axis_sizes[name] for name in names)
    return Cost.arithmetic(eqn.out.dtype, (devices - 1) * eqn.out.size)


@cost_rule("mgpu_atomic_store", "atomic_rmw", "atomic_cas", traits=Traits(in_place=True))
def atomic(eqn: Equation) -> Cost:
    """One operation for each element that is updated in memory.

    operations = |value|, the largest operand behind the reference.
    XLA: inside a custom call.
    """
    value = max(eqn.inputs[1:], key=lambda x: magnitude(x.size))
    return Cost.arithmetic(value.dtype, value.size)


@cost_rule(
    "mosaic_gpu_reduce_max",
    "mosaic_gpu_reduce_min",
    "mosaic_gpu_reduce_prod",
    "mosaic_gpu_reduce_sum",
    traits=REDUCTION,
)
def reduce(eqn: Equation) -> Cost:
    """n elements become one: n - 1 operations for each output element.

    operations = |in| - |out|.
    XLA: inside a custom call.
    """
    return Cost.arithmetic(eqn.inputs[0].dtype, eqn.inputs[0].size - eqn.out.size)


@cost_rule("_copysign", traits=ELEMENTWISE)
def copysign(eqn: Equation) -> Cost:
    """One operation for each element: the magnitude of one operand with the sign of the other.

    operations = |out|.
    XLA: inside a custom call.
    """
    return Cost.arithmetic(eqn.out.dtype, eqn.out.size)


@cost_rule("inline_mgpu", "inline_mgpu_p", "elementwise_inline_asm", "elementwise_inline_asm_p", traits=OPAQUE)
def inline_code(eqn: Equation) -> Cost:
    """Code of the user's, or of the assembler, may do any work; only its author knows it.

    It is listed as uncounted unless the user registers a rule. Code without operands and results, such as a fence,
    computes nothing. XLA: inside a custom call.
    """
    if eqn.inputs or eqn.outputs:
        raise Foreign("runs inline code, whose work only its author knows")
    return Cost()


free(
    "barrier_arrive",
    "barrier_arrive_and_wait",
    "barrier_test",
    "barrier_wait",
    "commit_group",
    "commit_smem",
    "commit_tmem",
    "debug_barrier",
    "griddepcontrol_launch_dependents",
    "griddepcontrol_wait",
    "print_layout",
    "query_cluster_cancel",
    "semaphore_signal_multicast",
    "semaphore_signal_parallel",
    "set_max_registers",
    "set_max_registers_p",
    "tcgen05_commit_arrive",
    "try_cluster_cancel",
    "wait_gmem_to_smem",
    "wait_load_tmem",
    "wait_smem_to_gmem",
    "wgmma_wait",
    because="Synchronisation, or a setting of the hardware; nothing is computed. XLA: inside a custom call.",
    traffic=no_traffic,
    traits=NO_TRAITS,
)
free(
    "layout_cast",
    because="Registers are renamed; how far values move between threads depends on the layouts. XLA: inside a custom "
    "call.",
    traffic=no_traffic,
    traits=IDENTITY,
)
free(
    "bitcast",
    because="The bits of registers get another dtype; nothing moves. XLA: bitcast-convert, 0 FLOPs.",
    traits=VIEW,
)
