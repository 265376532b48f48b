"""Energy: joules of a call as a range, and the energy, carbon and money of a run.

Low: operations and bytes times picojoules, a lower bound. Expected: the time at idle power plus a share of what is
above it, by utilisation. High: the time at the board's full power. Source of the shape: Accelergy (counts times a
table), GenZ (time times a share of the power); the weights below are to be fitted, and the range says how much that
matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from costax.core import units
from costax.core.cost import BYTES_SENT
from costax.core.display import Displayed
from costax.errors import DeviceError
from costax.performance.hardware.device import operand_class
from costax.performance.hardware.technologies import technology as table_of
from costax.performance.kernels import LINK, MATMUL_UNIT, MEMORY
from costax.performance.protocols import Predicted

# Which share of the power above idle each unit draws when it is busy all the time.
_WEIGHTS: Final[Mapping[str, float]] = {MATMUL_UNIT: 0.55, MEMORY: 0.35, LINK: 0.10}
# Idle power of a board where nobody measured it: 15 to 30 % of its full power.
_IDLE: Final = 0.2
# A transcendental takes about as much as so many multiplications: a polynomial of a few terms.
_SPECIAL: Final = 4
_LINK_BYTE: Final = 10.0
_SECONDS_OF_AN_HOUR: Final = 3600
_JOULES_OF_A_KWH: Final = 3.6e6


@dataclass(frozen=True, slots=True)
class Range:
    """A number with what it is at the least and at the most."""

    low: float
    expected: float
    high: float

    def __mul__(self, factor: float) -> Range:
        """Scale all three."""
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def text(self, unit: str) -> str:
        """Show as `expected [low, high]`."""
        low, expected, high = (units.rate(x, unit) for x in (self.low, self.expected, self.high))
        return f"{expected}   [{low}, {high}]"


@dataclass(frozen=True)
class Energy(Displayed):
    """Joules of one call on one device."""

    prediction: Predicted
    joules: Range
    assumptions: tuple[str, ...]

    @property
    def per_token(self) -> Range | None:
        """Joules a token, if the number of tokens of a call was given."""
        count = self.prediction.tokens
        return self.joules * (1 / count) if count else None

    @property
    def per_example(self) -> Range | None:
        """Joules an example, if the number of examples of a call was given."""
        count = self.prediction.examples
        return self.joules * (1 / count) if count else None

    def run(
        self,
        calls: float = 1,
        devices: int = 1,
        *,
        carbon_intensity: float | None = None,
        price: float | None = None,
        overhead: float = 1.0,
    ) -> Run:
        """Return what a run of so many calls takes, on so many devices at once.

        carbon_intensity: grams of CO2 a kWh, of your own grid. price: of a device for an hour, in your own money.
        overhead: of the building (PUE), 1.0 for none. A call on several devices is one call on each.
        """
        return Run(self, calls, devices, carbon_intensity, price, overhead)


@dataclass(frozen=True)
class Run(Displayed):
    """Many calls, on several devices at once: time, energy, carbon and money as ranges."""

    energy: Energy
    calls: float
    devices: int
    carbon_intensity: float | None
    price: float | None
    overhead: float

    @property
    def seconds(self) -> Range:
        """From the first call to the last."""
        return Range(*self.energy.prediction.range) * self.calls

    @property
    def device_hours(self) -> Range:
        """Hours of all devices together."""
        return self.seconds * (self.devices / _SECONDS_OF_AN_HOUR)

    @property
    def kwh(self) -> Range:
        """Energy of all devices and the building."""
        return self.energy.joules * (self.calls * self.devices * self.overhead / _JOULES_OF_A_KWH)

    @property
    def co2_grams(self) -> Range | None:
        """Grams of CO2; None without a carbon intensity."""
        return None if self.carbon_intensity is None else self.kwh * self.carbon_intensity

    @property
    def cost(self) -> Range | None:
        """Money, in that of the price; None without a price."""
        return None if self.price is None else self.device_hours * self.price


def energy(
    prediction: Predicted, technology: str = "7nm", *, power: float | None = None, idle: float | None = None
) -> Energy:
    """Return the joules of a call that was predicted.

    technology: the table of picojoules, "45nm" or "7nm". power, idle: watts at full load and at rest, where the device
    file has none or you know better. Raises DeviceError where the power of the device is not known.
    """
    device = prediction.device
    table = table_of(technology)
    figure = device.power.get("tdp")
    full = power or (figure.value if figure else None)
    if full is None:
        raise DeviceError(
            f"The power of {device.name} is not known.",
            why="What a call takes is at most its time at full power.",
            cure="Pass power= in watts (--power), or add [power.tdp] to a file of your own.",
        )
    measured = device.power.get("idle")
    rest = idle or (measured.value if measured else _IDLE * full)
    seconds = prediction.seconds
    busy = _utilisation(prediction)
    share = min(1.0, sum(weight * busy.get(unit, 0.0) for unit, weight in _WEIGHTS.items()))
    expected = seconds * (rest + (full - rest) * share)
    low, high = _counted(prediction, technology), prediction.seconds * full
    said = [
        f"Low: operations and bytes times picojoules ({table.name}; {table.source}), a lower bound.",
        f"Expected: {rest:g} W at rest{'' if idle or measured else ' (a fifth of full power, assumed)'} plus "
        f"{share:.0%} of the {full - rest:g} W above.",
        f"High: {full:g} W for the whole time{figure.mark if figure and not power else ''}.",
    ]
    if table.unverified:
        said.append(f"Not verified: {', '.join(table.unverified)} of the {table.id} table.")
    return Energy(prediction, Range(min(low, expected), expected, max(high, expected)), tuple(said))


def _utilisation(prediction: Predicted) -> dict[str, float]:
    """Return the share of the time that each unit is busy."""
    busy: dict[str, float] = {}
    for part in prediction.parts:
        for unit, seconds in part.timing.terms.items():
            busy[unit] = busy.get(unit, 0.0) + seconds * part.kernel.times
    return (
        {unit: min(1.0, seconds / prediction.seconds) for unit, seconds in busy.items()} if prediction.seconds else {}
    )


def _counted(prediction: Predicted, name: str) -> float:
    """Return joules of the operations, of the bytes through memory and over links."""
    table = table_of(name)
    picojoules = 0.0
    for part in prediction.parts:
        kernel, times = part.kernel, part.kernel.times
        matmul = sum(n / 2 * table.multiply_add(operand_class(dtype)) for dtype, n in kernel.matmul.items())
        vector = sum(n * table.operation(operand_class(dtype)) for dtype, n in kernel.vector.items())
        special = sum(
            n * _SPECIAL * table.operation(operand_class(dtype), "multiply")
            for dtype, n in kernel.transcendental.items()
        )
        picojoules += times * (matmul + vector + special + kernel.moved * table.picojoules["memory_byte"])
    sent = prediction.analysis.per_device.of_kind(BYTES_SENT)
    return (picojoules + sent * _LINK_BYTE) / 1e12
