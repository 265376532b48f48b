"""The accuracy of predictions against measured tables, XLA and published runs, and against the last release.

    python benchmarks/accuracy.py             # prints every bar; fails if a figure is worse than recorded
    python benchmarks/accuracy.py --record    # writes the figures as those of a release
    python benchmarks/accuracy.py --page      # also writes docs/published.md
    python benchmarks/accuracy.py tables      # a part alone: tables, products, collectives, attention, memory, energy
                                              # or published

The rows of the tables are those that are not in costax's data files (`benchmarks/efficiency.py` says which); they stand
in ../shared/oracles, and their bars are left out where this folder is missing. Processor time on a calibrated CPU is
measured, not computed: `benchmarks/cpu_time.py` prints its bars.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import eager_programs
import efficiency
import jax
import jax.numpy as jnp
import memory
import numpy as np
import training_runs
from published_programs import PROGRAMS

import costax
from costax.performance.attention_sizes import FusedAttention
from costax.performance.attention_time import attention_on
from costax.performance.contractions import Contraction
from costax.performance.efficiency import collectives
from costax.performance.hardware.specification import Figure, Network
from costax.performance.product_time import product_on

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "accuracy.json"
PUBLISHED = ROOT / "benchmarks" / "published.json"
PAGE = ROOT / "docs" / "published.md"
PARTS = ("tables", "products", "collectives", "attention", "memory", "energy", "published")
# Fewer programs of a part make no row of memory.
FEWEST_PROGRAMS = 10
# By how many points a figure may worsen; a count, by none.
ALLOWED = {"median error": 2.0, "nine in ten": 5.0, "bias": 2.0, "outside": 2.0, "off by 25 %": 2.0}


class Row:
    """Predictions of a kind, with figures that must not become worse: the nearer to 0, the better.

    name: what was predicted. figures: per cent, or counts. bars: the largest figures that are asked for.
    """

    name: str

    @property
    def count(self) -> int:
        raise NotImplementedError

    @property
    def figures(self) -> dict[str, float]:
        raise NotImplementedError

    @property
    def bars(self) -> dict[str, float]:
        raise NotImplementedError

    @property
    def held(self) -> dict[str, bool]:
        """Whether each bar holds."""
        return {kind: abs(self.figures[kind]) <= bar for kind, bar in self.bars.items()}

    def line(self, last: Record) -> str:
        """Return the line of the table: the figures with their bars, and those of the last release."""
        cells = [self._cell(kind) for kind in self.figures]
        before = last.get(self.name)
        old = "new" if before is None else ", ".join(_text(kind, x) for kind, x in before.items())
        return f"| {self.name} | {self.count} | {' | '.join([*cells, '', ''][:3])} | {old} |"

    def _cell(self, kind: str) -> str:
        text = _text(kind, self.figures[kind])
        text = text if kind in ("median error", "nine in ten", "bias") else f"{text} {kind}"
        if kind not in self.bars:
            return text
        unit = " %" if kind in ALLOWED else ""
        return f"{text} (bar {self.bars[kind]:g}{unit}{'' if self.held[kind] else ': not met'})"


Record = Mapping[str, Mapping[str, float]]
"""The figures by row and kind, as accuracy.json has them."""


def _text(kind: str, figure: float) -> str:
    if kind not in ALLOWED:
        return f"{figure:g}"
    return f"{figure:+.1f} %" if kind == "bias" else f"{figure:.0f} %" if kind == "nine in ten" else f"{figure:.1f} %"


@dataclass(frozen=True)
class Errors(Row):
    """Errors of predictions. ratios: predicted over true.

    bar: the median that is asked for. most: what nine in ten must not exceed. bias: the largest median of either sign.
    """

    name: str
    ratios: Sequence[float]
    bar: float | None = None
    most: float | None = None
    bias: float | None = None

    @property
    def count(self) -> int:
        return len(self.ratios)

    @property
    def figures(self) -> dict[str, float]:
        errors = sorted(100 * abs(x - 1) for x in self.ratios)
        nine = errors[max(0, round(0.9 * len(errors)) - 1)]
        return {"median error": median(errors), "nine in ten": nine, "bias": 100 * (median(self.ratios) - 1)}

    @property
    def bars(self) -> dict[str, float]:
        asked = {"median error": self.bar, "nine in ten": self.most, "bias": self.bias}
        return {kind: bar for kind, bar in asked.items() if bar is not None}


@dataclass(frozen=True)
class Outside(Row):
    """How many of some true values, in per cent, lie below the lower or above the upper end of their range."""

    name: str
    inside: Sequence[bool]
    bar: float | None = None

    @property
    def count(self) -> int:
        return len(self.inside)

    @property
    def figures(self) -> dict[str, float]:
        return {"outside": 100 * (1 - sum(self.inside) / len(self.inside))}

    @property
    def bars(self) -> dict[str, float]:
        return {} if self.bar is None else {"outside": self.bar}


@dataclass(frozen=True)
class Bytes(Row):
    """Estimates of memory against XLA's buffer assignment. rows: those of `memory.compare_kinds`.

    bar: the median error. most: the share of the programs that may be off by more than 25 %.
    """

    name: str
    rows: Sequence[tuple[str, int, int, tuple[str, ...]]]
    bar: float
    most: float

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def figures(self) -> dict[str, float]:
        found = memory.figures(list(self.rows))
        far = 100 * (1 - found["within 25 %"])
        return {
            "median error": 100 * found["median error"],
            "off by 25 %": far,
            "silently below": found["silently below"],
        }

    @property
    def bars(self) -> dict[str, float]:
        return {"median error": self.bar, "off by 25 %": self.most, "silently below": 0}


def recorded(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Return the figures of some rows as accuracy.json has them."""
    return {row.name: {kind: round(float(x), 2) for kind, x in row.figures.items()} for row in rows}


def worse(rows: Sequence[Row], last: Record) -> list[str]:
    """Return a line for each figure that is worse than in the last release.

    That is: it is further from 0 by more than `ALLOWED`; or it misses a bar that held; or it is missing, although other
    rows of its kind are here, as "collectives, h100-sxm" is of "collectives, l40s".
    """
    found: list[str] = []
    bars = {row.name: row.bars for row in rows}
    figures = recorded(rows)
    for name, before in last.items():
        for kind, old in before.items():
            if kind not in figures.get(name, {}):
                if name in figures or _kind(name) in map(_kind, figures):
                    found.append(f"{name}, {kind}: missing, {_text(kind, old)} in the last release")
                continue
            new, bar = figures[name][kind], bars[name].get(kind)
            if abs(new) > abs(old) + ALLOWED.get(kind, 0):
                found.append(f"{name}, {kind}: {_text(kind, new)}, {_text(kind, old)} in the last release")
            elif bar is not None and abs(old) <= bar < abs(new):
                found.append(f"{name}, {kind}: {_text(kind, new)}, and the bar of {bar:g} held in the last release")
    return found


def _kind(name: str) -> str:
    return name.partition(",")[0]


def products() -> Iterator[Errors]:
    """Products that are not in the data file, by device and unit; and each device from the tables of the others."""
    for unit, dtype in (("bf16", "bf16"), ("fp8", "f8_e4m3fn")):
        for name in efficiency.GPUS:
            table = efficiency.measured_products(name, unit)
            if not len(table):
                continue
            device, ratios = costax.device(name), []
            table = table[~efficiency.in_data_file(table)]
            for m, n, k, seconds in table:
                sizes = (1, int(m), int(n), int(k))
                one = Contraction("matmul", f"{dtype}*{dtype}->bf16", int(2 * m * n * k), sizes=sizes)
                found = product_on(device, one)
                assert found is not None
                ratios.append(found.time.total / seconds)
            yield Errors(f"products, {unit}, {name}", ratios, 8, 20, 3)
            # The measurements nearby hide a false constant of the formula, which convolutions and float32 take alone.
            values = efficiency.recorded_products(unit)[name]
            alone = efficiency.formula(values, table, efficiency.hardware(name, unit), unit)
            yield Errors(f"products, {unit}, {name}, formula alone", list(alone / table[:, 3]))
            kept = efficiency.kept_in_cache(name, table)
            if kept.any():
                others = [ratio for ratio, cached in zip(ratios, kept, strict=True) if not cached]
                yield Errors(f"products, {unit}, {name}, weights not left in L2", others)
    values = efficiency.recorded_products("bf16")
    for name in values:
        table = efficiency.measured_products(name, "bf16")
        others = efficiency.without(values, name)
        seconds = efficiency.formula(others, table, efficiency.hardware(name, "bf16"), "bf16")
        yield Errors(f"products, {name} from the other tables", list(seconds / table[:, 3]), 15)


def products_on_tpus() -> Iterator[Errors]:
    """Products of n x n on TPUs: those of the microbenchmarks that the start and the overlap were fitted to."""
    for name, rates in efficiency.TPU_PRODUCTS.items():
        ratios: list[float] = []
        for n, rate in rates.items():
            operand = jax.ShapeDtypeStruct((n, n), "bfloat16")
            found = costax.predict(costax.analyze(jnp.matmul)(operand, operand), name)
            ratios.append(found.seconds * rate * 1e12 / (2 * n**3))
        yield Errors(f"products, bf16, {name}, fitted", ratios)


def collective_times() -> Iterator[Errors]:
    """Collectives of sizes that are not in the data file, by device."""
    sizes = {size for size, _ in collectives.tables()["h100-sxm"]["all-reduce"][8]}
    ratios: dict[str, list[float]] = defaultdict(list)
    for x in efficiency.rows("collectives.csv"):
        nbytes, kind = 2 * int(x["elements"]), x["operation"].replace("alltoall", "all_to_all").replace("_", "-")
        if nbytes not in sizes:
            found = collectives.seconds(costax.device(x["device"]), kind, nbytes, int(x["gpus"]))
            assert found is not None
            ratios[x["device"]].append(found.seconds / (float(x["milliseconds"]) * 1e-3))
    for name, found in ratios.items():
        yield Errors(f"collectives, {name}", found, 12)


def attention_times() -> Iterator[Errors]:
    """Attention that no constant was fitted to, by kind and device."""
    for kind in ("prefill", "decode"):
        for name in efficiency.GPUS:
            sizes, measured, inside = efficiency.measured_attention(name, kind)
            ratios: list[float] = []
            for row in range(len(measured)):
                if not inside[row]:
                    one = FusedAttention(*(int(x[row]) for x in sizes), causal=True, backward=False)
                    found = attention_on(costax.device(name), one, "bf16")
                    assert found is not None
                    ratios.append(found.seconds / measured[row])
            yield Errors(f"attention, {kind}, {name}", ratios, 15)


@dataclass(frozen=True)
class Run:
    """A published run and its prediction, in seconds."""

    device: str
    name: str
    link: str
    published: float
    best: float
    expected: float
    worst: float

    @property
    def inside(self) -> bool:
        return self.best <= self.published <= self.worst


EAGER = {"eager images": eager_programs.images, "eager vision transformer": eager_programs.vision_transformer}
"""Programs of a framework that runs one operation after the other."""


def of_operations(operations: Sequence[tuple[costax.Analysis, int]], device: costax.Device) -> costax.Prediction:
    """Return the prediction of operations that run one after the other, each a number of times."""
    parts: list[Any] = []
    for analysis, times in operations:
        for part in costax.predict(analysis, device).parts:
            kernel = dataclasses.replace(part.kernel, times=part.kernel.times * times)
            parts.append(dataclasses.replace(part, kernel=kernel))
    return dataclasses.replace(costax.predict(operations[0][0], device), parts=parts)


def runs() -> Iterator[Run]:
    """Predict every published run on a device that costax knows."""
    known = costax.devices()
    for row in json.loads(PUBLISHED.read_text(encoding="utf-8")):
        if row["device"] not in known:
            print(f"skipped: costax has no device {row['device']}", file=sys.stderr)
            continue
        mesh = {name: row["arguments"][name] for name in ("replicas", "tensor", "shards") if name in row["arguments"]}
        # Published figures are of whole chips, also where jax sees one as two devices.
        device = dataclasses.replace(costax.device(row["device"]), jax_devices=1)
        if "network" in row:
            # The network of the cloud that ran it, in bytes per second of one GPU.
            card = Figure(row["network"], url=row["link"])
            device = dataclasses.replace(device, network=Network("network of the cloud", 8, card))
        if row["program"] in EAGER:
            prediction = of_operations(EAGER[row["program"]](**row["arguments"]), device)
        else:
            prediction = costax.predict(PROGRAMS[row["program"]](**row["arguments"]), device, mesh=mesh)
        best, expected, worst = prediction.range
        yield Run(row["device"], row["name"], row["link"], row["seconds"], best, expected, worst)


def bytes_of_programs() -> Iterator[Bytes]:
    """Memory by compiler and part of the programs (`memory.parts`); of all of them where no other part has ten."""
    found = {part: memory.compare_kinds(part) for part in memory.parts()}
    for target in memory.DEVICES:
        bar, most = (12, 20) if target.startswith("tpu") else (8, 10)
        rows = {part: by_target.get(target, []) for part, by_target in found.items()}
        large = {part: ours for part, ours in rows.items() if part != "made on" and len(ours) >= FEWEST_PROGRAMS}
        every = [row for ours in rows.values() for row in ours]
        for part, chosen in (large or {"all": every}).items():
            yield Bytes(f"memory, {target}, {part}", chosen, bar, most)


def energy_of_runs() -> Iterator[Errors | Outside]:
    """Device hours and kWh of published training runs."""
    found = [training_runs.row(run) for run in training_runs.RUNS]
    hours = [(row.run.hours, row.hours) for row in found]
    kwh = [(row.run.kwh, row.kwh) for row in found if row.run.kwh is not None]
    for name, pairs in (("hours", hours), ("kWh", kwh)):
        yield Errors(f"energy, {name} of training runs", [x.expected / true for true, x in pairs])
        yield Outside(f"energy, {name} outside [low, high]", [x.low <= true <= x.high for true, x in pairs])


def published(page: bool) -> Iterator[Errors | Outside]:
    found: list[Run] = []
    for run in runs():
        found.append(run)
        inside = "" if run.inside else "  outside"
        figures = f"{run.best:.4g} .. {run.expected:.4g} .. {run.worst:.4g}, published {run.published:.4g}"
        print(f"{run.device:12} {run.expected / run.published:5.2f}  {run.name}: {figures}{inside}", file=sys.stderr)
    by_device: dict[str, list[Run]] = defaultdict(list)
    for run in found:
        by_device[run.device].append(run)
    yield Errors("published runs", [run.expected / run.published for run in found], 12)
    for name, ours in sorted(by_device.items()):
        yield Errors(f"published runs, {name}", [run.expected / run.published for run in ours], bias=10)
    yield Outside("published runs outside [best, worst]", [run.inside for run in found], 15)
    for family in ("gpu", "tpu"):
        ours = {name: x for name, x in by_device.items() if costax.device(name).family == family}
        yield Outside(f"published runs outside a range from the other devices, {family}", from_others(ours))
    if page:
        PAGE.write_text(page_of(by_device, sum(run.inside for run in found) / len(found)), encoding="utf-8")


def from_others(by_device: Mapping[str, Sequence[Run]]) -> list[bool]:
    """Say which runs lie in a range that follows from the runs on other devices: what holds 95 % of them."""
    inside: list[bool] = []
    for name, ours in by_device.items():
        others = [run.published / run.expected for x, runs in by_device.items() if x != name for run in runs]
        low, high = np.quantile(others, (0.025, 0.975))
        inside += [bool(low <= run.published / run.expected <= high) for run in ours]
    return inside


def page_of(by_device: Mapping[str, Sequence[Run]], share: float) -> str:
    """Return the page of the documentation: a table for each device."""
    every = [run.expected / run.published for ours in by_device.values() for run in ours]
    error = 100 * median(abs(x - 1) for x in every)
    count = len(every)
    lines = [
        "# Predicted against published",
        "",
        "Runs that others published, and what costax predicts for the program. `nox -s accuracy -- --page` writes",
        "this page, and `benchmarks/published.json` has the runs. A training step is that of one device: its share of",
        "the batch, the recomputation that the recipe names, the exchange of the weights between the devices (FSDP)",
        "without overlap, and AdamW. Images and prompts are one call. A program that PyTorch ran without a compiler is",
        "one operation after the other. Best and worst are at least as far apart as the quantiles of these very runs,",
        "0.8 to 1.42 times the expected time on a GPU and 0.76 to 1.63 on a TPU, so that the share inside is no test",
        "of them. No expected time is fitted to the runs.",
        "",
        f"{count} runs on {len(by_device)} devices: median error {error:.0f} %; {share:.0%} of the published times lie",
        "between best and worst.",
    ]
    for name, ours in sorted(by_device.items()):
        bias = 100 * (median(run.expected / run.published for run in ours) - 1)
        lines += ["", f"## {costax.device(name).name}", "", f"Median of the errors {bias:+.0f} %.", ""]
        lines += ["| run | published | best | expected | worst | error |", "|---|---|---|---|---|---|"]
        for run in ours:
            times = " | ".join(costax_seconds(x) for x in (run.published, run.best, run.expected, run.worst))
            mark = "" if run.inside else " (outside)"
            lines.append(f"| [{run.name}]({run.link}) | {times} | {run.expected / run.published - 1:+.0%}{mark} |")
    return "\n".join(lines) + "\n"


def costax_seconds(seconds: float) -> str:
    from costax.core import units

    return units.seconds(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["", *PARTS], default="", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    os.environ.update(memory.ENVIRONMENT)
    last: dict[str, dict[str, float]] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    print("| what | rows | median error | nine in ten within | bias | last release |\n|---|---|---|---|---|---|")
    rows: list[Row] = []
    for source in sources(options.parts, page=options.page):
        for row in source():
            print(row.line(last), flush=True)
            rows.append(row)
    held = [(row.name, kind, holds) for row in rows for kind, holds in row.held.items()]
    print(f"\n{sum(holds for *_, holds in held)} of {len(held)} bars hold. Not met:")
    print(*(f"  {name}: {kind}" for name, kind, holds in held if not holds), sep="\n")
    if options.record:
        kinds = {_kind(row.name) for row in rows}
        kept = {name: x for name, x in last.items() if options.parts and _kind(name) not in kinds}
        RECORD.write_text(json.dumps({**kept, **recorded(rows)}, indent=1) + "\n", encoding="utf-8")
    elif found := worse(rows, last):
        sys.exit("Figures that are missing, or worse than in the last release:\n" + "\n".join(found))


def sources(parts: Sequence[str], *, page: bool = False) -> list[Callable[[], Iterable[Row]]]:
    """Return what computes the figures of some parts; of all if none is named."""
    tables = {"products": products, "collectives": collective_times, "attention": attention_times}
    wanted = set(filter(None, parts)) or {"tables", "memory", "energy", "published"}
    found: list[Callable[[], Iterable[Row]]] = []
    named = [name for name in tables if name in wanted or "tables" in wanted]
    if named and efficiency.ORACLES.is_dir():
        found += [tables[name] for name in named]
    elif named:
        print(f"skipped: the measured tables are not in {efficiency.ORACLES.relative_to(ROOT.parent)}", file=sys.stderr)
    if wanted & {"tables", "products"}:
        found.append(products_on_tpus)
    if "memory" in wanted:
        found.append(bytes_of_programs)
    if "energy" in wanted:
        found.append(energy_of_runs)
    if "published" in wanted:
        found.append(lambda: published(page))
    return found


if __name__ == "__main__":
    main()
