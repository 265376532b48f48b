"""The numbers of a compiler on a machine that its memory depends on: when it fuses, splits, copies and aligns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from costax.performance.hardware import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerModel:
    """The thresholds and sizes by which a compiler allocates memory on one kind of machine.

    The other files of this package hold the rules, which are those of XLA for GPUs; this class holds their numbers.

    name: of the compiler and the machine. kind: the compiler, "gpu", "cpu" or "tpu".

    bounds: the least and the most that a compiler needs, as shares of the estimate of its temporaries: rounded from
    the errors on the programs of benchmarks/memory.py, of which about one in ten lies outside.

    Order:

    schedule: "memory" for the order, of three, that needs least memory; "breadth first" for the order in which operands
    become ready. See `schedule`.

    largest_merged: products with more bytes of operands and results are merged with smaller ones alone.
    on_chip: bytes of the on-chip memory in which the compiler keeps temporaries; 0 where it keeps none there.

    Fusion:

    most_sources: the most buffers that one fusion reads.
    launch_bytes: the launch of a kernel, as bytes that could be moved in the same time.
    inline_bytes: constants of at most so many bytes are part of the code of a kernel and need no buffer.
    product_dtypes: the dtypes of operands that are fused into a product.
    product_tolerance: the extra bytes that an operand may read when it is fused into a product.
    smallest_product: a product with (m + n) * k below this is an ordinary fused loop and no kernel of its own.

    Recomputation:

    operations_per_byte: the operations that the machine executes while it moves a byte.
    shortest_reduction: shorter reductions are loops inside the kernel that uses them.
    most_copies: how often the code of a value may stand in one kernel.
    largest_kernel: the largest kernel, in operations, whose code duplication is evaluated. The limit is costax's own:
    it keeps the evaluation linear in the length of the program.

    Workspace:

    tile: rows, and columns, of an output tile of a product. multiprocessors: each computes a tile at a time.
    most_parts: the most parts into which a contraction is split; a power of 2.
    vector_bytes: the operands of a split product are padded to whole vectors of so many bytes.
    compute_weight, memory_weight, sum_weight, sum_launch: the cost model of a split product, of an operation, a byte of
    the product, a byte of the sum of the parts, and the launch of that sum.
    library_workspace: bytes that a matrix product of a library allocates.

    Allocation:

    alignment: every temporary starts at a multiple of so many bytes; the table of pointers of a tuple takes as many.
    word: bytes of a loop counter, or of the status word that a library writes.
    pointer: bytes of a pointer. A program with several results returns a table with a pointer to each.
    """

    name: str
    kind: str = "gpu"
    schedule: str = "memory"
    on_chip: int = 0
    # XLA's flag xla_gpu_dot_merger_threshold_mb. Measured, jax 0.10.2 for an H100: products of 44 MiB with operands and
    # results are merged, those of 67 MiB are not. Other versions of XLA have 32.
    largest_merged: int = 64 << 20
    bounds: tuple[float, float] = (0.5, 1.8)
    most_sources: int
    launch_bytes: int
    inline_bytes: int
    product_dtypes: frozenset[str]
    product_tolerance: int
    smallest_product: int
    operations_per_byte: float
    shortest_reduction: int
    most_copies: int
    largest_kernel: int
    tile: int
    multiprocessors: int
    most_parts: int
    vector_bytes: int
    compute_weight: float
    memory_weight: float
    sum_weight: float
    sum_launch: float
    library_workspace: int
    alignment: int
    word: int
    pointer: int


XLA_GPU_H100: Final = CompilerModel(
    name="XLA for an H100",
    # Source: XLA, gpu_fusible.h, MaxOperandsAndOutputsPerFusion.
    most_sources=64,
    # XLA's 1 us times the 3.35 TB/s of an H100.
    launch_bytes=3_352_320,
    # Calibrated against XLA's buffer assignment.
    inline_bytes=16,
    # Triton has no complex and no 64-bit numbers. Source: XLA, gemm_fusion.cc.
    product_dtypes=frozenset({"f32", "bf16", "f16", "i8"}),
    # Source: XLA, gemm_fusion.cc, IsInputWorthFusing.
    product_tolerance=1024,
    # Source: XLA's flag xla_gpu_gemm_rewrite_size_threshold.
    smallest_product=100,
    # 132 multiprocessors x 128 lanes x 1.98 GHz over 3.35 TB/s.
    operations_per_byte=10.0,
    # Source: XLA, priority_fusion.cc.
    shortest_reduction=16,
    # Source: XLA, fusion_node_indexing_evaluation.cc, kAllowedCodeDuplication.
    most_copies=15,
    largest_kernel=256,
    # An output tile has 128 x 128 elements; an H100 has 132 multiprocessors.
    tile=128,
    multiprocessors=132,
    most_parts=2048,
    vector_bytes=16,
    # Source: XLA, xla/backends/gpu/transforms/splitk_rewriter.cc, for Hopper.
    compute_weight=100.0,
    memory_weight=0.194136,
    sum_weight=193.1384,
    sum_launch=4.36e7,
    # Source: XLA, GemmRewriter, for Hopper without autotuning.
    library_workspace=4 << 20,
    # Read off XLA's buffer assignments: every temporary starts at a multiple of 256 bytes.
    alignment=256,
    word=4,
    pointer=8,
)
"""The model with which every device is estimated: XLA for an H100."""

XLA_TPU_V5E: Final = replace(
    XLA_GPU_H100,
    name="XLA for a TPU v5e",
    kind="tpu",
    # libtpu tiles the last two axes of an array 8 x 128 and pads them; alignment is a tile of 32-bit numbers.
    alignment=512,
    library_workspace=0,
    most_parts=1,
    on_chip=(128 - 16) << 20,
    largest_merged=0,
    # Whether an array lies in on-chip memory is libtpu's decision, which costax does not replay; see `bounds` of
    # MemoryProfile.
    bounds=(0.0, 1.6),
)
"""The model of the compiler of TPUs, with the on-chip memory of a v5e."""

XLA_CPU: Final = replace(
    XLA_GPU_H100,
    name="XLA for CPUs",
    kind="cpu",
    # Source: XLA, cpu_compiler.cc, which schedules for concurrency by default.
    schedule="breadth first",
    # Source: XLA, cpu_function_runtime.h, MinAlign.
    alignment=64,
    library_workspace=0,
    # XLA for CPUs calls Eigen or YNNPACK, which split no product in XLA's memory.
    most_parts=1,
    bounds=(0.5, 1.6),
    # cpu_compiler.cc does not merge products.
    largest_merged=0,
)
"""The model of the CPU of this machine, and of any other."""

# A kernel launch takes XLA's cost model 1 us. Source: XLA, gpu_performance_model.h, kKernelLaunchOverhead.
_LAUNCH_SECONDS: Final = 1e-6
# Of the VMEM of a TPU, XLA leaves so many bytes to the kernels themselves: the default of libtpu's flag
# xla_tpu_scoped_vmem_limit_kib for a v5e in 2025. libtpu is closed, so its source cannot be read; a public cost model
# of Pallas kernels of 2026 has 32 MiB for v5e to v7x.
_SCOPED_VMEM: Final = 16 << 20


def compiler_model(device: Device) -> CompilerModel | None:
    """Return the model of the compiler for a device, with the figures of its device file; None if costax has none.

    XLA compiles for NVIDIA and AMD GPUs with one set of rules, of which some depend on the machine: how many
    multiprocessors it has, and what it computes while it moves a byte.
    """
    if device.family == "cpu":
        return XLA_CPU
    on_chip = device.on_chip
    if device.family == "tpu":
        vmem = on_chip.get("vmem")
        usable = max(int(vmem.value) - _SCOPED_VMEM, 0) if vmem else 0
        return replace(XLA_TPU_V5E, name=f"XLA for a {device.name}", on_chip=usable)
    if device.vendor not in ("NVIDIA", "AMD"):
        return None
    changes: dict[str, float | int | str] = {"name": f"XLA for {device.name}"}
    units = on_chip.get("sms") or on_chip.get("cus")
    if units is not None:
        changes["multiprocessors"] = int(units.value)
    if device.bandwidth is not None:
        changes["launch_bytes"] = int(device.bandwidth.value * _LAUNCH_SECONDS)
        vector = device.vector_peak("f32")
        if vector is not None:
            # A fused multiply-add is two FLOPs and one instruction.
            changes["operations_per_byte"] = vector[1].value / 2 / device.bandwidth.value
    return replace(XLA_GPU_H100, **changes)  # type: ignore[arg-type]
