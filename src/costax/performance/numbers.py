"""Numbers: the dtypes of a program that a device has no unit for, said or refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from costax.core import dtypes
from costax.errors import DeviceError
from costax.performance.hardware import Device
from costax.performance.kernels import Kernel


def unusual_products(device: Device, products: Iterable[str]) -> list[str]:
    """Return what a device does instead where it has no unit for a dtype, one sentence for each dtype.

    products: the dtypes of contractions, such as `f64` or `i8*i8->i32`. A calibrated device has measured rates instead.
    """
    ways = {dtype: device.way(dtype) for dtype in sorted(set(products))}
    return [
        f"{dtype} on {device.name}: {found.note}"
        for dtype, found in ways.items()
        if found is not None and found.note and not device.rates
    ]


def check_arithmetic(device: Device, kernels: Sequence[Kernel], name: str) -> None:
    """Raise DeviceError if a device cannot compute in a dtype of a program, or if its file has no rate for it.

    Without a rate the arithmetic would take no time, so that a float64 program would be predicted to be the faster.
    """
    if device.rates or not device.peaks:
        return
    products = {dtype for kernel in kernels for dtype, flops in kernel.matmul.items() if flops}
    missing = sorted(dtype for dtype in products if device.way(dtype) is None)
    # A device that can do no product in float64 can do no other arithmetic in it either.
    other = {dtype for kernel in kernels for table in (kernel.vector, kernel.transcendental) for dtype in table}
    wide = sorted(d for d in other if dtypes.is_floating(d) and d in ("f64", "c128") and device.way(d) is None)
    if not missing and not wide:
        return
    dtype = (missing or wide)[0]
    what = "products" if missing else "arithmetic"
    raise DeviceError(
        f"costax cannot predict `{name}` on {device.name}: no unit or rate for {what} in {dtype}.",
        why=f"Its file has the rates of {', '.join(device.peaks)}, and XLA has no way from them to {dtype}.",
        cure="Use another dtype, such as float32 (jax_enable_x64 makes float64 the default), or another device; where "
        "the hardware does have a unit, add its rate to a device file of your own.",
    )
