"""Memory against XLA's buffer assignment for an H100: the corpus of the tests, the examples, the sample.

    python benchmarks/memory.py            # compares with the record, tests/data/h100_memory.json
    python benchmarks/memory.py --record   # compiles all of it ahead of time (needs costax[cuda]), some minutes

XLA's figure is argument + output - alias + temp. No GPU is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests" / "data" / "h100_memory.json"
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
}
# What is aligned to 256 bytes, and counted in tables of pointers, says nothing of a program of a few kilobytes.
GRANULARITY = 4096
EXAMPLES = (
    "alexnet.py:alexnet",
    "diffusion_unet.py:ddpm_unet",
    "gpt2.py:gpt2_small",
    "gpt2.py:gpt2_train_step",
    "llama.py:llama2_7b",
    "lstm.py:lstm_language_model",
    "lstm.py:lstm_train_step",
    "mamba.py:mamba_130m",
    "mlp_train.py:mlp_forward",
    "mlp_train.py:mlp_train_step",
    "mobilenet.py:mobilenet_v2",
    "moe.py:moe_layer",
    "resnet.py:resnet18",
    "resnet.py:resnet50",
    "resnet.py:resnet50_train_step",
    "vit.py:vit_b_16",
)


def programs() -> Iterator[tuple[str, object]]:
    """Yield (name, function that returns a Target) of every program whose modules are here."""
    import costax
    from corpus import made
    from corpus import programs as corpus
    from costax.program.targets import load_target

    for program in corpus(devices=8):
        yield program.name, lambda program=program: costax.Target(*made(program))
    for name in EXAMPLES:
        yield f"examples/{name}", lambda name=name: load_target(f"{ROOT / 'examples' / name}")
    from sample import PROGRAMS

    for name, make in PROGRAMS.items():
        yield f"sample/{name}", lambda make=make: costax.Target(*make())


def record() -> None:
    """Compile every program for the H100 and keep what XLA says of its memory."""
    from costax import _jax
    from costax.compare.ahead_of_time import machine
    from costax.program.trace import trace

    found = {}
    for name, make in programs():
        try:
            traced = trace(make(), (), {})
            lowered = _jax.lower(traced.traced, _jax.without_dead_code(traced.jaxpr), "cuda")
            count = _jax.partitions(lowered)
            chosen = machine(f"cuda:h100:{count}" if count > 1 else "cuda:h100")
            program, how = _jax.portable_program(lowered)
            executable = _jax.compile_ahead_of_time("cuda", chosen.topology, chosen.options, program, how)
        except BaseException as error:  # pytest's skip is none of Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"left out: {name}: {type(error).__name__}", file=sys.stderr)
            continue
        memory = _jax.compiled_memory(executable)
        found[name] = [memory[part] for part in ("argument", "output", "alias", "temp")]
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(sizes)}" for name, sizes in found.items())
    RECORD.write_text("{\n" + lines + "\n}\n")


def compare() -> list[tuple[str, int, int, tuple[str, ...]]]:
    """Return (name, estimate, XLA's bytes, doubts) of every program of the record."""
    import costax

    recorded = json.loads(RECORD.read_text())
    rows = []
    for name, make in programs():
        if name not in recorded:
            continue
        argument, output, alias, temp = recorded[name]
        try:
            target = make()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            continue
        analysis = costax.analyze(target)()
        rows.append((name, analysis.fused_peak_bytes, argument + output - alias + temp, analysis.memory.doubts))
    return rows


def summary(title: str, rows: list[tuple[str, int, int, tuple[str, ...]]]) -> str:
    """Return a line of the table."""
    errors = sorted(abs(estimate - truth) / max(truth, 1) for _, estimate, truth, _ in rows)
    within = sum(error <= 0.25 for error in errors) / len(errors)
    near = sum(abs(e - t) <= max(0.25 * t, GRANULARITY) for _, e, t, _ in rows) / len(rows)
    silent = sum(e < 0.75 * t - GRANULARITY and not doubts for _, e, t, doubts in rows)
    return f"| {title} | {len(rows)} | {median(errors):.1%} | {within:.1%} | {near:.1%} | {silent} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true", help="compile for the H100, ahead of time")
    parser.add_argument("--all", action="store_true", help="list every program")
    options = parser.parse_args()
    if options.record:
        record()
    rows = compare()
    print("| programs | number | median error | within 25 % | within 25 % or 4 KiB | silently below |")
    print("|---|---|---|---|---|---|")
    sample = [row for row in rows if row[0].startswith("sample/")]
    corpus = [row for row in rows if not row[0].startswith("sample/")]
    print(summary("corpus and examples", corpus))
    print(summary("of them, 10 kB and more", [row for row in corpus if row[2] >= 10_000]))
    print(summary("examples", [row for row in rows if row[0].startswith("examples/")]))
    print(summary("the sample", sample))
    for name, estimate, truth, doubts in sorted(rows, key=lambda row: row[1] / max(row[2], 1)):
        if options.all or abs(estimate - truth) > max(0.25 * truth, GRANULARITY):
            print(f"{estimate / max(truth, 1) - 1:+.0%} {name}: {estimate:,} B, XLA {truth:,} B {' '.join(doubts)}")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "examples")]
    main()
