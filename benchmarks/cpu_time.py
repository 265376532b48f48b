"""Time on a calibrated CPU, predicted and measured, for programs that the calibration has not seen (cpu_programs.py).

    python benchmarks/cpu_time.py                    # calibrates this CPU, predicts, measures
    python benchmarks/cpu_time.py --device cpu.toml  # with a device file that `costax calibrate` wrote

Processor time counts, of all threads: on a shared machine it does not contain the waiting for other programs. Programs
run in interleaved rounds, of which the median counts; each program runs twice in a round, and the difference of the two
medians is the noise of the measurement.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import jax
from cpu_programs import programs
from prediction import rank_correlation

import costax

# The least seconds of one sample; a program that takes less is repeated.
_SAMPLE = 2e-3


def sampler(compiled, args):
    """Return a function that returns the processor seconds and the wall seconds of one call."""
    jax.block_until_ready(compiled(*args))
    start = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    calls = max(1, min(20, int(_SAMPLE / (time.perf_counter() - start))))

    def sample():
        jax.block_until_ready(compiled(*args))
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(calls):
            jax.block_until_ready(compiled(*args))
        return (time.process_time() - processor) / calls, (time.perf_counter() - wall) / calls

    return sample


def measured(rounds: int) -> dict[str, dict[str, float]]:
    """Return processor seconds, those of the control, and wall seconds of each program."""
    samplers = {name: sampler(jax.jit(fn), args) for name, fn, args in programs()}
    seconds = {name: ([], [], []) for name in samplers}
    for _ in range(rounds):
        for which in (0, 1):
            for name, sample in samplers.items():
                processor, wall = sample()
                seconds[name][which].append(processor)
                seconds[name][2].append(wall)
    return {
        name: {"processor": median(first), "control": median(second), "wall": median(walls)}
        for name, (first, second, walls) in seconds.items()
    }


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1) + 0.5)]


def report(rows: list[dict]) -> None:
    print("| program | predicted | range | measured | control | error |\n|---|---|---|---|---|---|")
    for row in rows:
        error = row["predicted"] / row["processor"] - 1
        best, worst = (f"{x * 1e3:.3g}" for x in (row["best"], row["worst"]))
        print(
            f"| {row['name']} | {row['predicted'] * 1e3:.3f} ms | [{best}, {worst}] | {row['processor'] * 1e3:.3f} ms "
            f"| {row['control'] / row['processor'] - 1:+.0%} | {error:+.0%} |"
        )
    errors = [abs(row["predicted"] / row["processor"] - 1) for row in rows]
    noise = [abs(row["control"] / row["processor"] - 1) for row in rows]
    inside = sum(row["best"] <= row["processor"] <= row["worst"] for row in rows) / len(rows)
    rank = rank_correlation([row["predicted"] for row in rows], [row["processor"] for row in rows])
    print(f"\n{len(rows)} programs: median error {median(errors):.0%} (bar 25 %), ", end="")
    print(
        f"nine in ten within {quantile(errors, 0.9):.0%} (bar 60 %), rank correlation {rank:.3f} (bar 0.95), ", end=""
    )
    print(
        f"inside the range {inside:.0%} (bar 80 %); the control differs by {median(noise):.0%} in the median, ", end=""
    )
    print(f"nine in ten by at most {quantile(noise, 0.9):.0%}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", help="a device file; by default this machine is calibrated")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-xla", action="store_true", help="kernels by the producer-consumer rule")
    parser.add_argument("--save", help="write the figures as JSON")
    parser.add_argument("--measured", help="JSON of an earlier run, to predict without measuring again")
    options = parser.parse_args()
    if jax.default_backend() != "cpu":
        sys.exit("skipped: jax does not run on a CPU here")
    times = {}
    if options.measured:
        times = {row["name"]: row for row in json.loads(Path(options.measured).read_text())}
    else:
        times = measured(options.rounds)
    device = options.device or costax.calibrate(Path(tempfile.mkdtemp()) / "here.toml")
    rows = []
    for name, fn, args in programs():
        made = (costax.analyze if options.no_xla else costax.compare)(fn)(*args)
        prediction = costax.predict(made, device)
        best, _, worst = prediction.range
        predicted = getattr(prediction, "processor_seconds", prediction.seconds)
        rows.append(
            {
                "name": name,
                "predicted": predicted,
                "best": best,
                "worst": worst,
                **{key: times[name][key] for key in ("processor", "control", "wall")},
            }
        )
    report(rows)
    if options.save:
        Path(options.save).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
