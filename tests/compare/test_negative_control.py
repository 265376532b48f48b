"""A falsified module of the chain must show: as unexplained work, or work of no equation, or not XLA's number.

For programs of the corpus and each kind of tampering, one module of the chain and one equation are chosen at random,
and the instructions of that equation are falsified in that module only. Cases where the account of the module stays as
it was are left out: the exchange of two instructions with the same cost, for example.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import jax
import pytest

from corpus import FAMILIES, Program, programs
from falsified_chains import FALSIFIED, Chain, detected

SEED = 12
# The kind of tampering that a pass of a compiler may do itself.
LIKE_A_PASS = "double, used"


def chosen(number: int, candidates: Sequence[Program]) -> list[Program]:
    """Programs spread over the families."""
    by_family: dict[str, list[Program]] = defaultdict(list)
    for program in candidates:
        by_family[program.family].append(program)
    rng = random.Random(SEED)
    for family in by_family.values():
        rng.shuffle(family)
    rounds = [family[i] for i in range(len(candidates)) for family in by_family.values() if i < len(family)]
    return rounds[:number]


def control(falsified: Sequence[Program]) -> tuple[Counter, list[str], dict[str, str]]:
    """How many cases were detected and how many not, by kind and by module; those that were not; false alarms."""
    counts, missed, alarms = Counter(), [], {}
    for program in falsified:
        with Chain(program) as chain:
            if shown := detected(chain.compared()[0]):
                alarms[program.name] = shown
            for case in chain.cases(random.Random(f"{SEED} {program.name}")):
                outcome = chain.outcome(case)
                if outcome is None or not outcome.visible:
                    counts["left out"] += 1
                    continue
                counts.update((kind, bool(outcome.detected)) for kind in ("all", case.kind, case.stage))
                if not outcome.detected:
                    missed.append(f"{case.kind} {program.name}: {case}")
    return counts, missed, alarms


def check(falsified: Sequence[Program], least: float) -> None:
    counts, missed, alarms = control(falsified)
    table = {kind: f"{counts[kind, True]} of {n + counts[kind, True]}" for (kind, _), n in rows(counts)}
    print(f"detected: {table}; left out: {counts['left out']}")
    assert not alarms
    whole = counts["all", True] + counts["all", False]
    assert whole > 4 * len(falsified)
    # A pass may double what it gives to another reader: two rewritings make the same instruction, a fusion copies it.
    share = counts[LIKE_A_PASS, True] / (counts[LIKE_A_PASS, True] + counts[LIKE_A_PASS, False])
    assert share >= least - 0.2, missed
    others = [each for each in missed if not each.startswith(LIKE_A_PASS)]
    assert len(others) <= (1 - least) * (whole - counts[LIKE_A_PASS, True] - counts[LIKE_A_PASS, False]), others
    assert all(counts[kind, True] for kind in FALSIFIED)


def rows(counts: Counter) -> list[tuple[tuple[str, bool], int]]:
    kinds = dict.fromkeys(key[0] for key in counts if key != "left out")
    return [((kind, False), counts[kind, False]) for kind in kinds]


CANDIDATES = list(programs(devices=jax.device_count()))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_falsified_modules_are_detected():
    check(chosen(60, CANDIDATES), 0.99)


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_falsified_modules_of_small_programs_are_detected():
    small = [each for each in CANDIDATES if not each.long_to_compile]
    assert {each.family for each in small} <= set(FAMILIES)
    check(chosen(8, small), 0.95)
