"""The unit of a device that a contraction runs on, and how often, by dtype and precision.

On a GPU a float32 product runs on TF32 units unless the precision is "highest", which takes the float32 units. A TPU
multiplies bfloat16 alone: a float32 product is one pass at the default precision, 3 at "high" and 6 at "highest". A dot
algorithm such as BF16_BF16_F32_X3 names the unit and the number of passes. The precision changes nothing for operands
of 16 bits or less. Source: jax.lax.Precision, jax.lax.DotAlgorithmPreset; XLA, xla_data.proto PrecisionConfig.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from costax.core import dtypes
from costax.performance.contractions import Contraction
from costax.performance.hardware import Device
from costax.performance.hardware.specification import operand_class

_ALGORITHM: Final = re.compile(r"^(ANY_F8|TF32|BF16|F16|F32|F64)_.*?(?:_X(\d+))?$")
# The type of the operands of a dot algorithm -> the dtype whose unit it runs on.
_DTYPES: Final = {"ANY_F8": "f8_e4m3fn", "TF32": "f32", "BF16": "bf16", "F16": "f16", "F64": "f64"}
_TPU_PASSES: Final = {"HIGH": 3, "HIGHEST": 6}


class Unit(NamedTuple):
    """The unit of the peaks that a contraction runs on, its FLOP/s, and the passes that each product takes."""

    name: str
    peak: float
    passes: int = 1

    def __str__(self) -> str:
        """Return the unit as a table shows it, such as `bf16 x 3`."""
        return self.name if self.passes == 1 else f"{self.name} x {self.passes}"


def unit_of(device: Device, contraction: Contraction) -> Unit | None:
    """Return the unit of a contraction; None if the device file has no peak for it."""
    dtype, passes = contraction.dtype, 1
    single = operand_class(dtype) == "fp32" and not dtypes.is_complex(dtype.partition("->")[0].split("*")[0])
    exact = single and contraction.precision in ("HIGHEST", "F32_F32_F32")
    if exact and device.family == "gpu":
        return next((Unit(name, device.peaks[name].value) for name in _EXACT if name in device.peaks), None)
    algorithm = _ALGORITHM.match(contraction.precision)
    if exact and device.family == "tpu":
        passes = _TPU_PASSES["HIGHEST"]
    elif algorithm and algorithm[1] in _DTYPES:
        dtype, passes = _DTYPES[algorithm[1]], int(algorithm[2] or 1)
    elif contraction.precision == "HIGH" and device.family == "tpu" and single:
        passes = _TPU_PASSES["HIGH"]
    found = device.matmul_peak(dtype)
    return Unit(found[0], found[1].value, passes) if found else None


# The units that multiply float32 exactly, the preferred one first.
_EXACT: Final = ("fp32_matrix", "fp32")
