"""Falsified modules: XLA reads them too, and the total changes by what was falsified."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import tampering
from costax import _jax
from costax.hlo.proto import MESSAGES, decode
from costax.hlo.read import read_bytes
from costax.hlo.replay import Properties, replay_module
from hlo_editing import without_field


def spec(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def layers(x, w):
    with jax.named_scope("first"):
        x = jnp.tanh(x @ w)
    with jax.named_scope("second"):
        x = jnp.sin(x @ w) + 1
    return x.sum()


def recurrent(x, w):
    def step(carry, row):
        return jnp.tanh(carry @ w + row), carry.sum()

    return lax.scan(step, x[0], x)


def convolved(x, k):
    return jnp.where(lax.conv(x, k, (2, 2), "SAME") > 0, 1.0, 0.0).sum(0)


def sorted_pairs(x, i):
    values, places = lax.sort((x, i), num_keys=1)
    return jnp.exp(values), places + 1, jnp.fft.fft(x)


PROGRAMS = {
    "gradient": (jax.value_and_grad(layers), spec(32, 16), spec(16, 16)),
    "scan": (recurrent, spec(8, 16), spec(16, 16)),
    "convolution": (convolved, spec(2, 4, 16, 16), spec(4, 4, 3, 3)),
    "sort": (sorted_pairs, spec(6, 16), spec(6, 16, dtype=jnp.int32)),
}
STAGES = ("lowered", "compiled")
every_module = pytest.mark.parametrize(("name", "stage"), [(name, stage) for name in PROGRAMS for stage in STAGES])


@functools.cache
def hlo(name: str, stage: str) -> bytes:
    fn, *args = PROGRAMS[name]
    lowered = jax.jit(fn).lower(*args)
    return _jax.hlo_of(lowered if stage == "lowered" else lowered.compile())


def total(module: bytes) -> tuple[int, int]:
    """Return FLOPs and transcendentals; bytes change, because a costless instruction reads and writes."""
    return replay_module(read_bytes(module)).total[:2]


def work(module: bytes) -> dict[str, Properties]:
    """Return what each instruction with work of its own adds to the total; that of a reducer belongs to the reduce."""
    replay = replay_module(read_bytes(module))
    costs = {each.instruction.name: Properties(each.flops, each.transcendentals) for each in replay.instructions}
    return {name: cost for name, cost in costs.items() if cost != Properties()}


def times(module: bytes, name: str) -> int:
    """Return how many instructions have a name."""
    raw = [decode("Computation", each) for each in decode("Module", module).computations]
    return sum(decode("Instruction", own).name.decode() == name for each in raw for own in each.instructions)


def changed(before: bytes, after: bytes) -> tuple[int, int]:
    return tuple(now - then for now, then in zip(total(after), total(before), strict=True))


@every_module
def test_removed_instructions_keep_their_name_and_cost_nothing(name, stage):
    module = hlo(name, stage)
    for each, cost in work(module).items():
        falsified = tampering.remove(module, [each])
        assert falsified is not None, each
        assert changed(module, falsified) == (-cost.flops, -cost.transcendentals), each
        assert times(falsified, each) == 1


@every_module
def test_dropped_instructions_are_gone(name, stage):
    module = hlo(name, stage)
    for each, cost in work(module).items():
        falsified = tampering.drop(module, [each])
        assert falsified is not None, each
        assert changed(module, falsified) == (-cost.flops, -cost.transcendentals), each
        assert times(falsified, each) == 0


@pytest.mark.parametrize("used", [False, True])
@every_module
def test_doubled_instructions_cost_twice(name, stage, used):
    module = hlo(name, stage)
    for each, cost in work(module).items():
        falsified = tampering.double(module, [each], used=used)
        assert falsified is not None, each
        assert changed(module, falsified) == cost[:2], each
        assert times(falsified, each) == 1


@every_module
def test_halved_instructions_cost_half(name, stage):
    module = hlo(name, stage)
    halved = 0
    for each, cost in work(module).items():
        falsified = tampering.halve(module, [each])
        if falsified is not None:
            halved += 1
            # A sum of all n elements takes n - 1 steps, and of the half of them n / 2 - 1.
            assert changed(module, falsified) in (
                (-cost.flops // 2, -cost.transcendentals // 2),
                (-(cost.flops + 1) // 2, 0),
            ), each
    assert halved >= 2


def test_a_scalar_has_no_half():
    module = _jax.hlo_of(jax.jit(jnp.sin).lower(spec()))
    assert tampering.halve(module, work(module)) is None


@pytest.mark.parametrize("what", ["contents", "names", "metadata"])
@every_module
def test_an_exchange_keeps_the_total(name, stage, what):
    module = hlo(name, stage)
    first, *_, last = sorted(work(module), key=work(module).__getitem__)
    falsified = tampering.exchange(module, [first], [last], what=what)
    assert falsified is not None
    assert total(falsified) == total(module)
    before, after = work(module), work(falsified)
    exchanged = before if what == "metadata" else before | {first: before[last], last: before[first]}
    assert after == exchanged


def marks(module: bytes) -> dict[str, str]:
    computations = read_bytes(module).computations.values()
    return {ins.name: ins.op_name for each in computations for ins in each.instructions}


def test_an_exchange_of_contents_takes_the_mark_along_with_the_name():
    module = hlo("gradient", "lowered")
    first, last = "tanh.1", "sin.1"
    before = marks(module)
    assert before[first] != before[last]
    for what, same in (("contents", True), ("names", False), ("metadata", False)):
        after = marks(tampering.exchange(module, [first], [last], what=what))
        assert (after[first] == before[first]) is same, what
        assert (after[first] == before[last]) is not same, what


def test_several_instructions_are_falsified_at_once():
    module = hlo("gradient", "lowered")
    costs = work(module)
    both = [name for name in costs if name.startswith("dot")][:2]
    falsified = tampering.remove(module, both)
    assert changed(module, falsified)[0] == -sum(costs[name].flops for name in both)


def test_unknown_names_and_equal_work_change_nothing():
    module = hlo("gradient", "lowered")
    for function in (tampering.remove, tampering.drop, tampering.double, tampering.halve):
        assert function(module, ["nothing.1"]) is None
    assert tampering.exchange(module, ["nothing.1"], ["tanh.1"]) is None
    assert tampering.exchange(module, ["tanh.1"], ["tanh.1"]) is None


def test_untouched_instructions_keep_their_bytes():
    module = hlo("scan", "compiled")
    (chosen, *_) = work(module)
    before = {own for raw in decode("Module", module).computations for own in decode("Computation", raw).instructions}
    falsified = tampering.double(module, [chosen])
    after = {own for raw in decode("Module", falsified).computations for own in decode("Computation", raw).instructions}
    assert before < after
    assert len(after - before) == 1


def test_a_schedule_is_left_out_when_the_instructions_are_others():
    module = hlo("scan", "compiled")
    (chosen, *_) = work(module)
    schedules = {
        name: without_field(falsified, 7) != falsified
        for name, falsified in {
            "none": module,
            "exchange": tampering.exchange(module, *[[name] for name in list(work(module))[:2]]),
            "double": tampering.double(module, [chosen]),
        }.items()
    }
    assert schedules == {"none": True, "exchange": True, "double": False}
    assert MESSAGES["Module"].FromString(without_field(module, 7)).name


FALSIFIED = {
    "remove": tampering.remove,
    "drop": tampering.drop,
    "double": tampering.double,
    "double, used": functools.partial(tampering.double, used=True),
    "halve": tampering.halve,
    "exchange": lambda module, names: tampering.exchange(module, names[::2], names[1::2]),
}


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("kind", FALSIFIED)
@every_module
def test_xla_reads_falsified_modules_and_counts_as_the_replay_does(name, stage, kind):
    module = hlo(name, stage)
    falsified = FALSIFIED[kind](module, list(work(module)))
    assert falsified is not None
    theirs = _jax.xla_cost_of_untrusted(falsified)
    assert replay_module(read_bytes(falsified)).matches(theirs)
