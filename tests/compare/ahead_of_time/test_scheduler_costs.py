"""Predicted costs for XLA's latency-hiding scheduler: the compiler for an H100 reads them and moves the schedule."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import costax
from aot_targets import needs
from costax import _jax
from costax.cli.app import main
from costax.compare.ahead_of_time import compile_in_child, machine
from costax.errors import TargetError
from costax.report.scheduler_costs import costs_us

pytestmark = [needs("cuda"), pytest.mark.slow, pytest.mark.once]

MACHINE = "cuda:h100:8"
MESH = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))
# Else XLA gathers all weights at once.
APART = {"xla_gpu_all_gather_combine_threshold_bytes": "1"}
FILE = "xla_gpu_pgle_profile_file_or_directory_path"
STRICT = {"xla_gpu_pgle_accuracy_checker": "PGLE_STRICTNESS_LEVEL_ERROR"}


def sharded(*shape):
    sharding = NamedSharding(MESH, PartitionSpec("data"))
    return jax.ShapeDtypeStruct(shape, "bfloat16", sharding=sharding)


def layers(w1, w2, w3, x):
    return jnp.tanh(jnp.tanh(x @ w1) @ w2) @ w3


def scanned(weights, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]


ARGS = (*[sharded(2048, 2048)] * 3, sharded(4096, 2048))
SCANNED = (
    jax.ShapeDtypeStruct((4, 2048, 2048), "bfloat16", sharding=NamedSharding(MESH, PartitionSpec(None, "data"))),
    sharded(4096, 2048),
)


def prediction(fn, args):
    return costax.predict(costax.compare(fn, target=MACHINE, passes=False, xla_flags=APART)(*args), "h100-sxm")


def schedule(fn, args, **flags):
    """The collectives and the products of the entry in the order in which they run, of the program without marks."""
    lowered = jax.jit(fn).trace(*args).lower(lowering_platforms=("cuda",))
    built = compile_in_child(lowered, machine(MACHINE), fn.__name__, flags={**APART, **flags})
    text = _jax.hlo_text(built.hlo)
    assert "is_scheduled=true" in text
    names = re.findall(r"^ +(?:ROOT )?%?([\w.-]+) = ", text[text.index("\nENTRY") :], re.MULTILINE)
    return [name for name in names if re.match("all-gather|gemm", name)]


def during(schedule, collective):
    """The instructions between the start and the end of a collective."""
    start, done = (schedule.index(name) for name in (collective, collective.replace("start", "done")))
    return [name for name in schedule[start + 1 : done] if name.startswith("gemm")]


def written(path, costs):
    path.write_text("".join(f'costs {{ name: "{name}" cost_us: {cost} }}\n' for name, cost in costs.items()))
    return {FILE: str(path)}


def test_the_file_moves_the_schedule_as_its_costs_say(tmp_path):
    predicted = prediction(layers, ARGS)
    predicted.save(tmp_path / "predicted.pbtxt")
    plain = schedule(layers, ARGS)
    # Without costs each gather of weights has one product to hide behind.
    assert [len(during(plain, f"all-gather-start{n}")) for n in ("", ".1", ".2")] == [0, 1, 1]
    # A gather of 2048 x 2048 takes longer than one product of 512 x 2048 x 2048, so the last one gets both.
    costs = costs_us(predicted)
    (product,) = {round(cost, 9) for name, cost in costs.items() if name.startswith("gemm")}
    assert product < costs["all-gather-start.2"]
    ours = schedule(layers, ARGS, **{FILE: str(tmp_path / "predicted.pbtxt")})
    assert [len(during(ours, f"all-gather-start{n}")) for n in ("", ".1", ".2")] == [0, 0, 2]
    # Absurd costs as a control: slow gathers move the schedule in the same way, free ones leave it as it was.
    slow = written(tmp_path / "slow.pbtxt", {name: 1e6 if "gather" in name else 1 for name in costs})
    assert schedule(layers, ARGS, **slow) == ours
    free = written(tmp_path / "free.pbtxt", {name: 0.01 if "gather" in name else 1e6 for name in costs})
    assert schedule(layers, ARGS, **free) == plain


def test_every_instruction_that_xla_asks_for_has_a_cost(tmp_path):
    # XLA's own check of such a file: with this option a missing instruction is an error.
    predicted = prediction(scanned, SCANNED)
    predicted.save(tmp_path / "all.pbtxt")
    schedule(scanned, SCANNED, **{FILE: str(tmp_path / "all.pbtxt"), **STRICT})
    costs = costs_us(predicted)
    costs.pop(next(name for name in costs if name.startswith("gemm")))
    with pytest.raises(TargetError, match="does not compile") as caught:
        schedule(scanned, SCANNED, **written(tmp_path / "some.pbtxt", costs), **STRICT)
    assert "Found 1 missing instructions" in caught.value.why


def test_the_command_writes_the_file(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import jax, jax.numpy as jnp\n"
        "from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P\n"
        "mesh = AbstractMesh((8,), ('data',), axis_types=(AxisType.Auto,))\n"
        "x = jax.ShapeDtypeStruct((4096, 2048), 'bfloat16', sharding=NamedSharding(mesh, P('data')))\n"
        "w = jax.ShapeDtypeStruct((2048, 2048), 'bfloat16', sharding=NamedSharding(mesh, P('data')))\n"
        "def step():\n    return (lambda w, x: jnp.tanh(x @ w)), (w, x)\n"
    )
    costs = tmp_path / "costs.pbtxt"
    command = ["predict", f"{program}:step", "--device", "h100-sxm", "--xla", "--target", MACHINE]
    flag = ["--xla-flag", "xla_gpu_enable_latency_hiding_scheduler=true"]
    done = CliRunner().invoke(main, [*command, *flag, "--save", str(costs)])
    assert done.exit_code == 0, done.output
    lines = [line for line in costs.read_text().splitlines() if not line.startswith("#")]
    assert any(re.fullmatch(r'costs { name: "all-gather-start" cost_us: [\d.]+ }', line) for line in lines)
    assert not any("done" in line for line in lines)
