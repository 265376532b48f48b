"""The time of a fused attention on a GPU, by the model of attention."""

from __future__ import annotations

from typing import Final, NamedTuple

from costax.performance.attention_sizes import FusedAttention
from costax.performance.efficiency import attention
from costax.performance.efficiency.attention import Heads
from costax.performance.efficiency.tables import attention_constants
from costax.performance.hardware import Device
from costax.performance.product_time import hardware_for

# The backward pass has 5 products for 2, and reaches 0.85 of the rate. Source: Shah et al., FlashAttention-3, figures 5
# and 6: 550 to 580 TFLOP/s backward, 640 to 660 forward, for heads of 128 and 16 k keys on an H100.
_BACKWARD: Final = 5 / 2 / 0.85
# With at most so many queries, the kernel reads the cache as decoding does.
_DECODED: Final = 1


# The bytes of shared memory that the kernels of Hopper and of Blackwell for data centres need. Theirs multiply by warp
# groups from shared memory; kernels of other GPUs multiply by warps from registers. Source: FlashAttention-3.
_OF_WARP_GROUPS: Final = 200 << 10


def has_warp_groups(device: Device) -> bool:
    """Say whether the attention kernels of a GPU multiply by warp groups, from a large shared memory."""
    shared = device.on_chip.get("smem_per_sm")
    return shared is not None and shared.value >= _OF_WARP_GROUPS


class AttentionTime(NamedTuple):
    """Seconds of a fused attention. low, high: measured over expected, as quantiles. source: end of "from ..."."""

    seconds: float
    low: float
    high: float
    source: str


def attention_on(device: Device, sizes: FusedAttention, dtype: str) -> AttentionTime | None:
    """Return the time of a fused attention; None on devices for which the model lacks a figure. dtype: of queries."""
    found = device.matmul_peak(dtype)
    hardware = hardware_for(device, found[1].value) if found and device.family == "gpu" else None
    if hardware is None:
        return None
    kind = "decode" if int(sizes.queries) <= _DECODED and not sizes.backward else "prefill"
    constants = attention_constants(device.id, kind, warp_groups=has_warp_groups(device))
    heads = Heads(*(float(x) for x in sizes[:6]))
    if kind == "decode":
        seconds = float(attention.decode(constants.values, heads, hardware))
    else:
        # What keeps attention below the peak (exponentials, waiting) does not slow down where the products do.
        share, *others = constants.values
        share = min(share * hardware.reference / hardware.peak, max(share, 1.0))
        seconds = float(attention.prefill((share, *others), heads, hardware, causal=sizes.causal))
    low, high = constants.low, constants.high
    if sizes.backward:
        # The backward pass was not measured.
        return AttentionTime(seconds * _BACKWARD, low**2, high**2, constants.source)
    return AttentionTime(seconds, low, high, constants.source)
