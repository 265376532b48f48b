"""The time of a contraction on a GPU, by the model of products, and which table its constants came from."""

from __future__ import annotations

from typing import Final, NamedTuple

from costax.core import dtypes
from costax.performance.contractions import Contraction
from costax.performance.efficiency import products
from costax.performance.efficiency.products import Hardware, ProductTime
from costax.performance.efficiency.tables import constants, hardware_of
from costax.performance.hardware import Device
from costax.performance.precision import Unit, unit_of

# Unit of the peaks -> the unit whose measured table describes it: products of the same tiles on the same cores.
_TABLES: Final = {"fp8": "fp8", "int8": "fp8", "fp4": "fp8", "int4": "fp8"}


class ProductOnDevice(NamedTuple):
    """The time of a product. low, high: measured over expected, as quantiles. source: where that is from."""

    time: ProductTime
    low: float
    high: float
    source: str


def product_on(device: Device, contraction: Contraction, moved: float | None = None) -> ProductOnDevice | None:
    """Return the time of a contraction on a GPU; None on other devices, and where its sizes are unknown.

    A convolution is the product that it is computed as: (positions, taps * channels) x (taps * channels, filters), but
    reads its image once. moved: the bytes of its kernel.
    """
    if device.family != "gpu" or not contraction.sizes or not contraction.flops or contraction.kind == "depthwise":
        return None
    unit = unit_of(device, contraction)
    hardware = hardware_for(device, unit.peak / unit.passes) if unit else None
    if unit is None or hardware is None:
        return None
    batch, m, n, k = (max(1, int(x)) for x in contraction.sizes)
    share = float(contraction.flops) / (2 * batch * m * n * k)
    if share < 1 and contraction.kind == "matmul":
        # One of several devices does a part of the product.
        m = max(1, round(m * share))
    elif share < 1:
        # Holes of a transposed convolution are no work.
        k = max(1, round(k * share))
    operand, result = _widths(contraction.dtype)
    table = _TABLES.get(unit.name, "bf16")
    # The tables have 16- and 8-bit operands, and no convolutions.
    same = contraction.kind == "matmul" and unit.name in ("bf16", "fp16", "fp8") and unit.passes == 1
    time = products.product(
        *(device.id, table, hardware, (batch, m, n, k), (operand, result)),
        corrected=same,
        best=_best_share(device, unit, table),
        moved=moved if contraction.kind != "matmul" else None,
    )
    found = constants(device.id, table)
    low, high = (found.low, found.high) if same else products.wider(found.low, found.high)
    of_table = "" if same else f", scaled from {table} products to {contraction.kind}s on {unit}"
    return ProductOnDevice(time, low, high, found.source + of_table)


def full_rate(device: Device) -> float | None:
    """Return the FLOP/s of 16-bit products that the multiprocessors are built for; None if the file has none.

    A GeForce halves the rate of products that are summed in float32, but not the bandwidth of its caches.
    """
    names = ("fp16_fp16acc", "bf16", "fp16")
    return next((device.peaks[name].value for name in names if name in device.peaks), None)


def _best_share(device: Device, unit: Unit, table: str) -> float | None:
    """Return the share of the peak of the best product that anybody measured, where no table tells more."""
    own = device.efficiency.get(f"{unit.name}_matmul")
    if constants(device.id, table).measured:
        # Their table has products on these units; of the float32 units it says nothing.
        return own.value if own and unit.name == "fp32" else None
    other = own or device.efficiency.get("bf16_matmul") or device.efficiency.get("fp16_matmul")
    return other.value if other else None


def hardware_for(device: Device, peak: float) -> Hardware | None:
    """Return what the models of kernels need of a device; None if its file lacks it. peak: FLOP/s of the unit."""
    known = hardware_of(device.id)
    processors = device.on_chip.get("sms") or device.on_chip.get("cus")
    count = float(processors) if processors else known.get("multiprocessors", 0.0)
    cache, reference = device.on_chip.get("l2"), full_rate(device)
    if not count or cache is None or reference is None or device.bandwidth is None:
        return None
    return Hardware(peak, reference, device.bandwidth.value, cache.value, count)


def _widths(dtype: str) -> tuple[float, float]:
    """Return the bytes of an element of the operands and of the result."""
    operands, _, result = dtype.partition("->")
    widest = max(operands.split("*"), key=dtypes.bits)
    # The kernel of a library writes the result in the dtype of the operands, or in 16 bits; sums are wider inside.
    return dtypes.bits(widest) / 8, min(dtypes.bits(result or widest) / 8, max(dtypes.bits(widest) / 8, 2.0))
