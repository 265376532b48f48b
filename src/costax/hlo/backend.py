"""The kind of machine that XLA compiled a module for, by what its backends write into modules and names of files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from costax.hlo.records import Instruction, Module

CPU: Final = "cpu"
GPU: Final = "gpu"
TPU: Final = "tpu"

# XLA writes dumps as NAME.cpu_after_optimizations.txt and NAME.sm_8.0_gpu_after_optimizations.txt.
_FILE: Final = re.compile(r"[._](cpu|gpu|tpu)_after_optimizations\.")
# Targets of custom calls, and keys of the configuration, that only one backend writes.
_TARGET: Final = (
    (re.compile(r"__(?:cublas|cudnn|cusolver|cub|gpu|triton)\b|(?:cu(?:solver|sparse|fft|blas)|hip|roc)\w*_"), GPU),
    (re.compile(r"__(?:onednn|eigen|ynn|xnn)\b|lapack_"), CPU),
    (re.compile(r"tpu_custom_call"), TPU),
)
_CONFIG: Final = (
    (re.compile(rb'"(?:operation_queue_id|wait_on_operation_queues|fusion_backend_config)"'), GPU),
    (re.compile(rb'"outer_dimension_partitions"|"__(?:ynn|xnn|onednn)'), CPU),
    (re.compile(rb'"(?:window_config|scoped_memory_configs|used_scoped_memory_configs)"'), TPU),
)


def backend_of(module: Module, path: Path | None = None) -> str:
    """Return "cpu", "gpu" or "tpu"; "" if nothing tells which, or two signs contradict each other.

    path: of the file that the module was read from. A module before optimisation need not have any sign.
    """
    if path is not None and (named := _FILE.search(path.name)):
        return named[1]
    signs = {
        sign for computation in module.computations.values() for ins in computation.instructions for sign in _signs(ins)
    }
    return signs.pop() if len(signs) == 1 else ""


def _signs(ins: Instruction) -> Iterator[str]:
    if ins.opcode == "custom-call":
        yield from (kind for pattern, kind in _TARGET if pattern.match(ins.custom_call_target))
    if ins.backend_config:
        yield from (kind for pattern, kind in _CONFIG if pattern.search(ins.backend_config))
    # Only TPUs keep arrays in tiles.
    if ins.shape.layout is not None and ins.shape.layout.tiles:
        yield TPU
