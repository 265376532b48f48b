"""Time on a calibrated CPU, predicted and measured, for programs that the calibration has not seen (cpu_programs.py).

    python benchmarks/cpu_time.py                    # calibrates this CPU, predicts, measures
    python benchmarks/cpu_time.py --device cpu.toml  # with a device file that `costax calibrate` wrote
    python benchmarks/cpu_time.py --realtime         # before other programs of the machine; needs root

Processor time is that of all threads: on a shared machine it does not contain the waiting for other programs. Seconds
are those of the clock, and mean something on an idle machine, or with `--realtime`. Each round samples every trial of
the calibration and then every program, twice; the medians over the rounds count. The difference of the two medians of a
program is the noise of the measurement. The first table has the kernels of the compiled program, the second those that
the producer-consumer rule makes of the jaxpr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from statistics import median

import jax
from cpu_programs import programs
from prediction import rank_correlation

import costax
from costax.measure.calibration import Calibration
from costax.measure.calibration.clock import processor_seconds

# Programs whose time on a busy machine is that of threads that wait for each other; the prediction says so.
LAPACK = (
    "cholesky_solves",
    "gaussian_process",
    "eigh_covariance",
    "svd_low_rank",
    "qr_least_squares",
)
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
        wall, processor = time.perf_counter(), processor_seconds()
        for _ in range(calls):
            jax.block_until_ready(compiled(*args))
        return (processor_seconds() - processor) / calls, (time.perf_counter() - wall) / calls

    return sample


def first(on: bool) -> None:
    """Let all threads of this process run before those of other processes, or not any more."""
    policy, priority = (os.SCHED_RR, 10) if on else (os.SCHED_OTHER, 0)
    for thread in os.listdir("/proc/self/task"):
        os.sched_setscheduler(int(thread), policy, os.sched_param(priority))


def measured(rounds: int, calibration: Calibration | None, *, realtime: bool) -> dict[str, dict[str, float]]:
    """Return processor seconds, those of the control, and wall seconds of each program."""
    samplers = {name: sampler(jax.jit(fn), args) for name, fn, args in programs()}
    seconds = {name: ([], [], []) for name in samplers}
    for _ in range(rounds):
        if realtime:
            first(on=True)
        if calibration is not None:
            deque(calibration.round(), maxlen=0)
        for which in (0, 1):
            for name, sample in samplers.items():
                processor, wall = sample()
                seconds[name][which].append(processor)
                seconds[name][2].append(wall)
        if realtime:
            first(on=False)
            time.sleep(1)  # the others have had to wait
    return {
        name: {"processor": median(one), "control": median(other), "wall": median(walls)}
        for name, (one, other, walls) in seconds.items()
    }


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1) + 0.5)]


def report(rows: list[dict]) -> None:
    print("| program | processor ms | measured | control | error | ms | range | measured | error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        best, worst = (f"{x * 1e3:.3g}" for x in (row["best"], row["worst"]))
        error = row["processor_predicted"] / row["processor"] - 1
        print(
            f"| {row['name']} | {row['processor_predicted'] * 1e3:.3f} | {row['processor'] * 1e3:.3f} "
            f"| {row['control'] / row['processor'] - 1:+.0%} | {error:+.0%} "
            f"| {row['predicted'] * 1e3:.3f} | [{best}, {worst}] | {row['wall'] * 1e3:.3f} "
            f"| {row['predicted'] / row['wall'] - 1:+.0%} |"
        )


def summary(rows: list[dict]) -> None:
    for kind, predicted, of in (
        ("processor time", "processor_predicted", "processor"),
        ("seconds", "predicted", "wall"),
    ):
        print(f"{kind}: ", end="")
        line([{**row, "expected": row[predicted], "measured": row[of]} for row in rows])
    noise = [abs(row["control"] / row["processor"] - 1) for row in rows]
    print(
        f"the control differs by {median(noise):.0%} in the median, nine in ten by at most {quantile(noise, 0.9):.0%}"
    )


def line(rows: list[dict]) -> None:
    errors = [abs(row["expected"] / row["measured"] - 1) for row in rows]
    inside = sum(row["best"] <= row["measured"] <= row["worst"] for row in rows) / len(rows)
    rank = rank_correlation([row["expected"] for row in rows], [row["measured"] for row in rows])
    print(f"{len(rows)} programs: median error {median(errors):.0%} (bar 25 %), ", end="")
    print(
        f"nine in ten within {quantile(errors, 0.9):.0%} (bar 60 %), rank correlation {rank:.3f} (bar 0.95), ", end=""
    )
    print(f"inside the range {inside:.0%} (bar 80 %)")


def predicted(fn, args, device, *, xla: bool) -> dict[str, float]:
    jitted = jax.jit(fn)
    program = costax.analyze(jitted.lower(*args).compile())() if xla else costax.analyze(jitted)(*args)
    prediction = costax.predict(program, device)
    best, _, worst = prediction.range
    return {
        "predicted": prediction.seconds,
        "processor_predicted": prediction.processor_seconds,
        "best": best,
        "worst": worst,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", help="a device file; by default this machine is calibrated")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--realtime", action="store_true", help="measure before other programs of the machine (root)")
    parser.add_argument("--save", help="write the figures as JSON")
    options = parser.parse_args()
    if jax.default_backend() != "cpu":
        sys.exit("skipped: jax does not run on a CPU here")
    calibration = None if options.device else Calibration()
    times = measured(options.rounds, calibration, realtime=options.realtime)
    device = options.device
    if calibration is not None:
        device = calibration.write(Path(tempfile.mkdtemp()) / "here.toml")
    print(f"jax {jax.__version__}, {options.rounds} interleaved rounds, {os.cpu_count()} processors, load ", end="")
    print(" ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown")
    saved = {}
    for xla in (True, False):
        print(f"\n{'Compiled program' if xla else 'jaxpr'}\n")
        rows = [{"name": name, **predicted(fn, args, device, xla=xla), **times[name]} for name, fn, args in programs()]
        report(rows)
        print()
        summary(rows)
        plain = [row for row in rows if row["name"] not in LAPACK]
        print(f"\nWithout the {len(LAPACK)} programs whose factorisations LAPACK's threads share:")
        summary(plain)
        saved["xla" if xla else "jaxpr"] = rows
    if options.save:
        Path(options.save).write_text(json.dumps(saved, indent=1))


if __name__ == "__main__":
    main()
