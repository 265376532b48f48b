"""The work that a pass removed: its indices find what a search through all of it finds."""

from __future__ import annotations

import random

import pytest

from costax.compare import waiting_work
from costax.compare.place import Place
from costax.compare.waiting_work import WaitingWork
from costax.hlo.records import Instruction
from costax.hlo.replay import Properties
from costax.hlo.shapes import Shape

pytestmark = pytest.mark.once
SHAPE = Shape("f32", (2,), 2, 32)


def instruction(name, opcode="add", operands=()):
    return Instruction(0, name, opcode, SHAPE, tuple(operands), (), ())


def place(name, opcode, operands, cost, jax_name=""):
    return Place(instruction(name, opcode, operands), 0, cost, jax_name)


def random_places(rng, prefix, number, values):
    return [
        place(
            f"{prefix}.{i}",
            rng.choice(["add", "mul"]),
            rng.choices(values, k=rng.randint(1, 3)),
            Properties(rng.choice([0, 2, 4]), 0, rng.choice([8, 16])),
            rng.choice(["", "a", "b"]),
        )
        for i in range(number)
    ]


def operands(x):
    return sorted(operand.name for operand in x.ins.operands)


def by_content(waiting):
    """In the order of the index: opcodes and costs as they first occur."""
    contents = list(dict.fromkeys(x.content for x in waiting))
    return sorted(waiting, key=lambda x: contents.index(x.content))


@pytest.mark.parametrize("seed", range(30))
def test_the_index_finds_what_a_search_finds(seed):
    rng = random.Random(seed)
    values = [instruction(f"p.{i}", "parameter") for i in range(4)]
    removed = random_places(rng, "old", 40, values)
    index, waiting = WaitingWork(removed), by_content([x for x in removed if x.computes])
    for new in random_places(rng, "new", 60, values):
        like = [x for x in waiting if x.content == new.content]
        assert list(index.like(new).values()) == like
        assert index.has_name_of(new) == any(x.name == new.name for x in like)
        same = next((x for x in like if operands(x) == operands(new)), None)
        assert index.with_operands_of(new) == same
        wanted = {operand.name for operand in new.ins.operands}
        as_large = [x for x in waiting if x.cost[:2] == new.cost[:2]]
        reading = next((x for x in as_large if not wanted.isdisjoint(operands(x))), None)
        assert index.reading(new.cost[:2], wanted) == reading
        assert index.has_work(new.cost[:2]) or reading is None
        taken = rng.choice([None, same, reading])
        if taken is not None:
            index.take(taken)
            waiting.remove(taken)


def test_thousands_of_equal_instructions_are_looked_up_once_each(monkeypatch):
    calls, count = [], waiting_work._operands
    monkeypatch.setattr(waiting_work, "_operands", lambda x: calls.append(x) or count(x))
    n, cost = 2000, Properties(2, 0, 8)
    removed, new = (
        [place(f"{prefix}.{i}", "add", [instruction(f"p.{i}")], cost) for i in range(n)] for prefix in ("old", "new")
    )
    index = WaitingWork(removed)
    for each in reversed(new):
        found = index.with_operands_of(each)
        assert operands(found) == operands(each)
        index.take(found)
    assert len(calls) == 2 * n
