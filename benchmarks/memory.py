"""Memory against XLA's buffer assignment: the corpus of the tests, the examples and the sample for an H100, and the
programs of `kinds` for an H100, a TPU v5e and a CPU.

    python benchmarks/memory.py            # compares with the records, tests/data/h100_memory.json and memory.json
    python benchmarks/memory.py --kinds    # the programs of `kinds` alone
    python benchmarks/memory.py --record   # compiles the first record ahead of time (needs costax[cuda]), some minutes
    python benchmarks/memory.py --record-kinds tpu:v5e   # compiles `kinds` for a target and updates memory.json

XLA's figure is argument + output - alias + temp. No GPU and no TPU is needed. `figures()` returns the numbers of the
tables, for a gate.
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
KINDS = ROOT / "benchmarks" / "memory.json"
# The device of costax whose compiler model is compared with each target of memory.json.
DEVICES = {"cuda:h100": "h100-sxm", "tpu:v5e": "tpu-v5e", "cpu": "x86-generic"}
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


def record_kinds(target: str) -> None:
    """Compile the programs of `kinds` for a target, those that are not in memory.json yet, and add them to it."""
    import jax
    from kinds import PROGRAMS

    import costax
    from costax import _jax
    from costax.compare.ahead_of_time import machine
    from costax.program.trace import trace

    platform = target.partition(":")[0]
    recorded = json.loads(KINDS.read_text())
    known = recorded.setdefault(target, {})
    for name, make in PROGRAMS.items():
        if name in known:
            continue
        with jax.enable_x64(name.endswith("f64")):
            traced = trace(costax.Target(*make()), (), {})
            lowered = _jax.lower(traced.traced, _jax.without_dead_code(traced.jaxpr), platform)
            try:
                if platform == "cpu":
                    memory = _jax.memory_sizes(lowered.compile().memory_analysis())
                else:
                    count = _jax.partitions(lowered)
                    chosen = machine(f"{target}:{count}" if count > 1 else target)
                    program, how = _jax.portable_program(lowered)
                    memory = _jax.compiled_memory(
                        _jax.compile_ahead_of_time(platform, chosen.topology, chosen.options, program, how)
                    )
            except jax.errors.JaxRuntimeError as error:
                print(f"left out: {name}: {str(error)[:200]}", file=sys.stderr)
                continue
        known[name] = [memory[part] for part in ("argument", "output", "alias", "temp")]
        KINDS.write_text(as_json(recorded))


def as_json(recorded: dict[str, dict[str, list[int]]]) -> str:
    """Return memory.json: a line a program."""
    blocks = []
    for target, known in recorded.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known))
        blocks.append(f" {json.dumps(target)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def parts() -> dict[str, list[str]]:
    """Return the names of the programs of `kinds` by what they are to the rules of the models.

    "made on": every second program, looked at when the rules were made. "kept apart": the others. "fresh", "second
    fresh": written later, and tried once before any rule was changed for them; README.md has the figures of that try.
    """
    from kinds import PROGRAMS

    later = {"fresh": "kinds.fresh", "second fresh": "kinds.fresh_second"}
    by_part = {part: [n for n, make in PROGRAMS.items() if make.__module__ == m] for part, m in later.items()}
    older = [name for name, make in PROGRAMS.items() if make.__module__ not in later.values()]
    return {"made on": older[::2], "kept apart": older[1::2], **by_part}


def compare_kinds(part: str | None = None) -> dict[str, list[tuple[str, int, int, tuple[str, ...]]]]:
    """Return by target (name, estimate, XLA's bytes, doubts) of the programs of `kinds` that memory.json has.

    part: the key of `parts`; None: all programs.
    """
    import jax
    from kinds import PROGRAMS

    import costax
    from costax.performance.hardware import device

    recorded = json.loads(KINDS.read_text())
    rows: dict[str, list[tuple[str, int, int, tuple[str, ...]]]] = {target: [] for target in recorded}
    for name in PROGRAMS if part is None else parts()[part]:
        make = PROGRAMS[name]
        with jax.enable_x64(name.endswith("f64")):
            analysis = costax.analyze(costax.Target(*make()))()
            for target, known in recorded.items():
                if name not in known:
                    continue
                argument, output, alias, temp = known[name]
                use = analysis.memory_use(device(DEVICES[target]))
                rows[target].append((name, use.needed, argument + output - alias + temp, tuple(use.unmodelled)))
    return rows


def figures(rows: list[tuple[str, int, int, tuple[str, ...]]]) -> dict[str, float]:
    """Return the numbers that a bar is set on: programs, median error, share within 25 %, silently below by more."""
    errors = [abs(estimate - truth) / max(truth, 1) for _, estimate, truth, _ in rows]
    return {
        "programs": len(rows),
        "median error": median(errors),
        "within 25 %": sum(error <= 0.25 for error in errors) / len(errors),
        "silently below": sum(e < 0.75 * t and not doubts for _, e, t, doubts in rows),
    }


def summary(title: str, rows: list[tuple[str, int, int, tuple[str, ...]]]) -> str:
    """Return a line of the table."""
    found = figures(rows)
    share, silent = found["within 25 %"], found["silently below"]
    return f"| {title} | {len(rows)} | {found['median error']:.1%} | {share:.1%} | {silent} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true", help="compile for the H100, ahead of time")
    parser.add_argument("--kinds", action="store_true", help="compare the programs of `kinds` alone")
    parser.add_argument("--record-kinds", metavar="TARGET", help="compile the programs of `kinds` for a target")
    parser.add_argument("--all", action="store_true", help="list every program")
    options = parser.parse_args()
    if options.record:
        record()
    if options.record_kinds:
        record_kinds(options.record_kinds)
    print("| programs | number | median error | within 25 % | silently below |")
    print("|---|---|---|---|---|")
    for part in parts():
        for target, found in compare_kinds(part).items():
            if not found:
                continue
            print(summary(f"kinds, {target}, {part}", found))
            for name, estimate, truth, doubts in sorted(found, key=lambda row: row[1] / max(row[2], 1)):
                if options.all:
                    print(f"{estimate / max(truth, 1) - 1:+.0%} {name}: {estimate:,} B, XLA {truth:,} B", *doubts)
    if options.kinds:
        return
    rows = compare()
    sample = [row for row in rows if row[0].startswith("sample/")]
    corpus = [row for row in rows if not row[0].startswith("sample/")]
    print(summary("corpus and examples", corpus))
    print(summary("of them, 10 kB and more", [row for row in corpus if row[2] >= 10_000]))
    print(summary("examples", [row for row in rows if row[0].startswith("examples/")]))
    print(summary("the sample", sample))
    for name, estimate, truth, doubts in sorted(rows, key=lambda row: row[1] / max(row[2], 1)):
        if options.all or abs(estimate - truth) > 0.25 * truth:
            print(f"{estimate / max(truth, 1) - 1:+.0%} {name}: {estimate:,} B, XLA {truth:,} B {' '.join(doubts)}")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "examples")]
    main()
