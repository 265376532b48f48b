"""Energy: the joules of one call as a range, and the energy, carbon dioxide and price of a run of many calls.

Low: operations and bytes times picojoules, a lower bound. Expected: the time at idle power plus, in proportion to the
utilisation of the units, a share of the power above idle. High: the time at full power. Source of the method: Accelergy
(counts times a table) and GenZ (time times a share of the power). The weights of the units below are estimates that no
measurement has fitted yet; the range shows how much they matter.

That is one call. The hours and the energy of a run of a training step have more in them (exchange, input, evaluations,
restarts), so their range is what published training runs reached: `costax.performance.real_runs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from costax.core import units
from costax.core.cost import BYTES_SENT
from costax.core.display import Displayed
from costax.errors import DeviceError, InputError
from costax.performance.hardware.specification import operand_class
from costax.performance.hardware.technologies import technology as table_of
from costax.performance.kernels import LINK, MATMUL_UNIT, MEMORY
from costax.performance.protocols import Predicted
from costax.performance.real_runs import power_share, utilisation
from costax.program.tree import BACKWARD

# The share of the power above idle that each unit draws at full utilisation.
_WEIGHTS: Final[Mapping[str, float]] = {MATMUL_UNIT: 0.55, MEMORY: 0.35, LINK: 0.10}
# Idle power as a share of full power, for boards without a measured value. Typical values are 15 to 30 %.
_IDLE: Final = 0.2
# A transcendental takes the energy of about four multiplications: a polynomial of a few terms.
_TRANSCENDENTAL: Final = 4
# Picojoules per byte over a link.
_LINK_BYTE: Final = 10.0
# No power, price, or number of calls or devices is larger.
_MOST: Final = 10**15
_SECONDS_OF_AN_HOUR: Final = 3600
_JOULES_OF_A_KWH: Final = 3.6e6
# Power usage effectiveness that publications of training runs give: none, 1.1 (LLaMA), 1.2 (BLOOM).
_OVERHEAD: Final = (1.0, 1.1, 1.2)


@dataclass(frozen=True, slots=True)
class Range:
    """An expected value with a lower and an upper bound."""

    low: float
    expected: float
    high: float

    def __mul__(self, factor: float) -> Range:
        """Multiply all three numbers."""
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def times(self, low: float, expected: float, high: float) -> Range:
        """Multiply each number by a factor of its own."""
        return Range(self.low * low, self.expected * expected, self.high * high)

    def text(self, unit: str) -> str:
        """Return `expected   [low, high]` with three digits and a unit."""
        low, expected, high = (units.rate(x, unit) for x in (self.low, self.expected, self.high))
        return f"{expected}   [{low}, {high}]"


@dataclass(frozen=True, repr=False)
class Energy(Displayed):
    """The energy of one call on one device, in joules, with the assumptions behind it.

    devices: how many devices run the program; each takes so many joules. watts: the power at full load. in_training:
    the seconds of a call in a training run, by the utilisation of published runs; None if the program does not train.
    """

    prediction: Predicted
    joules: Range
    assumptions: tuple[str, ...]
    devices: int = 1
    watts: float = 0.0
    in_training: Range | None = None

    @property
    def per_token(self) -> Range | None:
        """Joules of all devices per token; None if the number of tokens per call is not known."""
        count = self.prediction.tokens
        return self.joules * (self.devices / count) if count else None

    @property
    def per_example(self) -> Range | None:
        """Joules of all devices per example; None if the number of examples per call is not known."""
        count = self.prediction.examples
        return self.joules * (self.devices / count) if count else None

    def run(
        self,
        calls: float = 1,
        devices: int | None = None,
        *,
        carbon_intensity: float | None = None,
        price: float | None = None,
        overhead: float | None = None,
    ) -> Run:
        """Return the time, energy, CO2 and price of a run of many calls on several devices at once.

        calls: calls on each device. devices: by default those of the program. carbon_intensity: grams of CO2 per kWh of
        your electricity. price: the price of one device per hour, in your currency. overhead: power usage effectiveness
        (PUE) of the building, 1.0 for none; without it 1.0 to 1.2 for a training run, and 1.0 for any other.

        The range of a training step is that of published training runs, whose hours include exchange between devices,
        evaluations and restarts; that of any other program is the range of the prediction.

        Raises InputError for a number that no run has, such as NaN.
        """
        devices = self.devices if devices is None else devices
        _check(calls=calls, devices=devices, carbon_intensity=carbon_intensity, price=price, overhead=overhead)
        return Run(self, calls, devices, carbon_intensity, price, overhead)


@dataclass(frozen=True, repr=False)
class Run(Displayed):
    """The time, energy, CO2 and price of many calls on several devices at once, as ranges."""

    energy: Energy
    calls: float
    devices: int
    carbon_intensity: float | None
    price: float | None
    overhead: float | None = None

    @property
    def seconds(self) -> Range:
        """Seconds from the first call to the last, restarts included where the program is a training step."""
        best, expected, worst = self.energy.prediction.range
        real = self.energy.in_training
        if real is None:
            return Range(best, expected, worst) * self.calls
        # A program that is predicted to be slower than real runs, such as one bound by memory, stays so.
        range_ = Range(max(best, real.low), max(expected, real.expected), max(worst, real.high))
        return range_ * self.calls

    @property
    def device_hours(self) -> Range:
        """Hours of all devices together."""
        return self.seconds * (self.devices / _SECONDS_OF_AN_HOUR)

    @property
    def kwh(self) -> Range:
        """Kilowatt-hours of all devices, multiplied by the overhead of the building.

        Of a training run, the hours times the share of the full power that the devices of published runs drew.
        """
        if self.energy.in_training is None:
            return self.energy.joules * (self.calls * self.devices * (self.overhead or 1.0) / _JOULES_OF_A_KWH)
        shares = power_share()
        overhead = _OVERHEAD if self.overhead is None else (self.overhead,) * 3
        watt_hours = self.device_hours.times(shares.least, shares.median, 1.0) * self.energy.watts
        return watt_hours.times(*overhead) * 1e-3

    @property
    def assumptions(self) -> list[str]:
        """What the hours and the energy of a training run assume beside the prediction; empty for other programs."""
        if self.energy.in_training is None:
            return []
        reached, shares = utilisation(), power_share()
        building = "1.0 to 1.2" if self.overhead is None else f"{self.overhead:g}"
        return [
            f"Hours: model FLOPs at the utilisation of {reached.count} published training runs, {reached.least:.0%} to "
            f"{reached.most:.0%}, median {reached.median:.0%}; a prediction that is slower counts instead.",
            f"Energy: the hours at {shares.least:.0%} to 100 % of {self.energy.watts:g} W, expected "
            f"{shares.median:.0%}, times {building} for the building.",
        ]

    @property
    def co2_grams(self) -> Range | None:
        """Grams of CO2; None without a carbon intensity."""
        return None if self.carbon_intensity is None else self.kwh * self.carbon_intensity

    @property
    def cost(self) -> Range | None:
        """The cost of all device hours, in the currency of the price; None without a price."""
        return None if self.price is None else self.device_hours * self.price


def energy(
    prediction: Predicted, technology: str = "7nm", *, power: float | None = None, idle: float | None = None
) -> Energy:
    """Return the energy of one predicted call, in joules.

    technology: the process node of the table of picojoules, "45nm" or "7nm". power, idle: watts at full load and at
    rest; they replace those of the device file. Raises DeviceError if the power of the device or the technology is not
    known, and InputError for a power that no device has, such as NaN.
    """
    _check(power=power, idle=idle)
    device = prediction.device
    table = table_of(technology)
    figure = device.power.get("tdp")
    full = power or (figure.value if figure else None)
    if full is None:
        raise DeviceError(
            f"The device file of {device.name} has no power.",
            why="The upper bound of the energy is the time of a call at full power.",
            cure="Pass power= in watts (--power), or add [power.tdp] to a device file of your own.",
        )
    measured = device.power.get("idle")
    rest = idle or (measured.value if measured else _IDLE * full)
    seconds = prediction.seconds
    busy = _utilisation(prediction)
    share = min(1.0, sum(weight * busy.get(unit, 0.0) for unit, weight in _WEIGHTS.items()))
    expected = seconds * (rest + (full - rest) * share)
    low, high = _counted(prediction, technology), prediction.seconds * full
    assumptions = [
        f"Low: operations and bytes times picojoules ({table.name}; {table.source}), a lower bound.",
        f"Expected: {rest:g} W at rest{'' if idle or measured else ' (assumed: a fifth of full power)'} plus "
        f"{share:.0%} of the {full - rest:g} W between rest and full load.",
        f"High: {full:g} W for the whole time{figure.mark if figure and not power else ''}.",
    ]
    if table.unverified:
        assumptions.append(f"Not verified in the {table.id} table: {', '.join(table.unverified)}.")
    joules = Range(min(low, expected), expected, max(high, expected))
    in_training = _in_training(prediction)
    return Energy(prediction, joules, tuple(assumptions), prediction.analysis.devices, full, in_training)


def _in_training(prediction: Predicted) -> Range | None:
    """Return the seconds of a call at the utilisation of real training runs; None if the program does not train."""
    if BACKWARD not in prediction.analysis.by_direction() or prediction.peak is None:
        return None
    reached, at_the_peak = utilisation(), prediction.model_flops / prediction.peak[1]
    return Range(at_the_peak / reached.most, at_the_peak / reached.median, at_the_peak / reached.least)


def _check(**figures: float | None) -> None:
    """Raise InputError for a figure that is negative, not a number, or so large that products overflow."""
    for name, value in figures.items():
        if value is not None and not 0 <= value <= _MOST:
            raise InputError(
                f"{name} must be a number from 0 to {_MOST:g}, got {value}.",
                why="Energy, time and price are multiplied by it.",
                cure=f"Pass the number of the device or of the run, for example {name}=700.",
            )


def _utilisation(prediction: Predicted) -> dict[str, float]:
    """Return the share of the predicted time in which each unit is busy."""
    busy: dict[str, float] = {}
    for part in prediction.parts:
        for unit, seconds in part.timing.terms.items():
            busy[unit] = busy.get(unit, 0.0) + seconds * part.kernel.times
    return (
        {unit: min(1.0, seconds / prediction.seconds) for unit, seconds in busy.items()} if prediction.seconds else {}
    )


def _counted(prediction: Predicted, name: str) -> float:
    """Return the joules of all operations, of the bytes through memory and of the bytes over links."""
    table = table_of(name)
    picojoules = 0.0
    for part in prediction.parts:
        kernel, times = part.kernel, part.kernel.times
        matmul = sum(n / 2 * table.multiply_add(operand_class(dtype)) for dtype, n in kernel.matmul.items())
        vector = sum(n * table.operation(operand_class(dtype)) for dtype, n in kernel.vector.items())
        special = sum(
            n * _TRANSCENDENTAL * table.operation(operand_class(dtype), "multiply")
            for dtype, n in kernel.transcendental.items()
        )
        picojoules += times * (matmul + vector + special + kernel.moved * table.picojoules["memory_byte"])
    sent = prediction.analysis.per_device.of_kind(BYTES_SENT)
    return (picojoules + sent * _LINK_BYTE) / 1e12
