"""Prediction against measurement: example models at five sizes each, on jax's default device.

    python benchmarks/prediction.py            # on this CPU, which it calibrates
    python benchmarks/prediction.py --device h200-sxm   # on a GPU, with its tabulated figures

All is interleaved: each round runs the trials of the calibration and then all programs in turn, and the medians over
the rounds count. So a neighbour on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import jax

import costax
from costax import _jax
from costax.measure.calibration import Calibration
from costax.measure.measurement import arguments, known_device

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))


def spec(text: str):
    return costax.spec(text)


def programs(large: bool) -> Iterator[tuple[str, Callable[[], costax.Target]]]:
    """Yield (name, target) of each model at five sizes, from the smallest; `large` for a GPU."""
    import gpt2
    import haiku as hk
    import lstm
    import mlp_train
    import mobilenet
    import resnet
    import vit
    from flax import nnx

    def mlp(n):
        params = jax.eval_shape(mlp_train.init, spec("key<fry>[]"))
        return costax.Target(mlp_train.mlp, (params, spec(f"f32[{n},784]")), params_argnums=0)

    def mlp_step(n):
        made = mlp_train.mlp_train_step()
        params, state, _, _ = made.args
        return costax.Target(made.fn, (params, state, spec(f"f32[{n},784]"), spec(f"i32[{n}]")), params_argnums=0)

    def transformer(n):
        return costax.Target(gpt2.GPT2(layers=2, heads=4, width=256), (spec(f"i32[1,{n}]"),))

    def vision(n):
        made = nnx.eval_shape(
            lambda: vit.VisionTransformer(image=n, width=192, depth=4, heads=3, hidden=768, rngs=nnx.Rngs(0))
        )
        return costax.Target(made, (spec(f"f32[1,{n},{n},3]"),))

    def recurrent(n):
        return costax.Target(hk.transform(lstm.language_model), (spec(f"i32[8,{n}]"),))

    families = {
        "mlp_forward": (mlp, (32, 64, 128, 256, 512)),
        "mlp_train_step": (mlp_step, (32, 64, 128, 256, 512)),
        "resnet18": (lambda n: costax.Target(resnet.ResNet18(), (spec(f"f32[1,{n},{n},3]"),)), (64, 96, 128, 160, 224)),
        "mobilenet_v2": (
            lambda n: costax.Target(mobilenet.MobileNetV2(), (spec(f"f32[1,{n},{n},3]"),)),
            (64, 96, 128, 160, 224),
        ),
        "gpt2, 2 layers of 256": (transformer, (32, 64, 128, 256, 512)),
        "vit, 4 layers of 192": (vision, (64, 96, 128, 160, 224)),
        "lstm": (recurrent, (1, 2, 4, 8, 16)),
    }
    for name, (make, sizes) in families.items():
        for size in sizes:
            n = size * 4 if large and not name.startswith(("resnet", "mobile", "vit", "gpt2")) else size
            yield f"{name} @ {n}", lambda make=make, n=n: make(n)


def timed(run: Callable[[], object], times: int = 3) -> list[float]:
    """Seconds of some runs; one before brings back what the other programs pushed out of the caches."""
    _jax.block_until_ready(run())
    found = []
    for _ in range(times):
        start = time.perf_counter()
        _jax.block_until_ready(run())
        found.append(time.perf_counter() - start)
    return found


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's: how far the order of one is that of the other."""

    def ranks(xs):
        order = sorted(range(len(xs)), key=lambda i: xs[i])
        found = [0] * len(xs)
        for rank, i in enumerate(order):
            found[i] = rank
        return found

    n = len(a)
    distance = sum((x - y) ** 2 for x, y in zip(ranks(a), ranks(b), strict=True))
    return 1 - 6 * distance / (n * (n * n - 1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto", help="by default this one, calibrated if it is a CPU")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--least", action="store_true", help="the least run, not the median: on a busy machine")
    parser.add_argument("--calibration", help="write the calibration to this file, and keep it")
    parser.add_argument("--save", help="write the figures as JSON")
    parser.add_argument("--no-xla", action="store_true", help="kernels by the producer-consumer rule")
    options = parser.parse_args()
    platform, kind = _jax.device()
    calibration = Calibration() if platform == "cpu" and options.device == "auto" else None
    device = known_device(options.device, platform, kind) if calibration is None else None
    if calibration is None and device is None:
        sys.exit(f"skipped: costax knows no device called {kind!r}")
    names, runs, prepared = [], [], []
    for name, make in programs(large=platform != "cpu"):
        target = make()
        analysis = costax.analyze(target)()
        values, _ = arguments(analysis.program, (), {})
        executable = _jax.Executable(analysis.program.traced, analysis.program.jaxpr)
        values = values[len(values) - executable.arguments :]
        names.append(name)
        prepared.append(analysis if options.no_xla or platform != "cpu" else costax.compare(target)())
        runs.append(lambda executable=executable, values=values: executable(values))
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(options.rounds):
        if calibration is not None:
            deque(calibration.round(), maxlen=0)
        for run, times in zip(runs, found, strict=True):
            times += timed(run)
    if calibration is not None:
        device = calibration.write(Path(options.calibration or Path(tempfile.mkdtemp()) / "here.toml"))
    predicted = [costax.predict(program, device).seconds for program in prepared]
    seconds = [min(times) if options.least else median(times) for times in found]
    errors = [p / m - 1 for p, m in zip(predicted, seconds, strict=True)]
    which = "least" if options.least else "medians"
    print(f"jax {jax.__version__}, {kind} ({platform}), {device.name}, {which} of {options.rounds} interleaved runs\n")
    print("| program | predicted | measured | error |\n|---|---|---|---|")
    for name, p, m, e in zip(names, predicted, seconds, errors, strict=True):
        print(f"| {name} | {p * 1e3:.3f} ms | {m * 1e3:.3f} ms | {e:+.0%} |")
    sizes = sorted(abs(e) for e in errors)
    nine = sizes[int(0.9 * len(sizes)) - 1]
    print(f"\nmedian error {median(sizes):.0%} (bar 20 %), nine in ten within {nine:.0%} (bar 35 %)")
    print(f"rank correlation {rank_correlation(predicted, seconds):.3f} (bar 0.95)")
    if options.save:
        rows = [dict(name=n, predicted=p, measured=m) for n, p, m in zip(names, predicted, seconds, strict=True)]
        Path(options.save).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
