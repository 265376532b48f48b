"""Ids that are numbered anew: XLA counts the module as before, and its parser needs little memory."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from costax import _jax
from costax.hlo.dense_ids import with_dense_ids
from costax.hlo.module_analysis import analyze_bytes, compare_module
from costax.hlo.proto import decode
from costax.hlo.read import opened
from hlo_samples import module_bytes, scanned

ORACLE = Path(__file__).resolve().parents[3] / "shared/oracles/a100_step/after_optimizations.hlo.pb.xz"


def sparse(hlo: bytes, factor: int) -> bytes:
    """Return the module with each id of an instruction many times as large."""
    _, module = opened(hlo)
    changed = []
    for raw in module.computations:
        computation = decode("ComputationNumbers", raw)
        upper = computation.id << 32 if computation.root_id >> 32 else 0
        for ins in computation.instructions:
            ins.id = upper + (ins.id - upper + 1) * factor
            ins.operand_ids[:] = [upper + (i - upper + 1) * factor for i in ins.operand_ids]
            ins.control_predecessor_ids[:] = [upper + (i - upper + 1) * factor for i in ins.control_predecessor_ids]
        computation.root_id = upper + (computation.root_id - upper + 1) * factor
        changed.append(computation.SerializeToString())
    module.computations[:] = changed
    module.ClearField("schedule")
    return module.SerializeToString()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_module_with_dense_ids_costs_the_same_for_xla(compiled):
    hlo = module_bytes(scanned, compiled)
    assert with_dense_ids(hlo) == hlo
    wide = sparse(hlo, 10**6)
    dense = with_dense_ids(wide)
    assert dense != wide
    assert dict(_jax.xla_cost(dense)) == dict(_jax.xla_cost(hlo))
    before, after = analyze_bytes(wide), analyze_bytes(dense)
    assert (before.total, before.float32, before.executed) == (after.total, after.float32, after.executed)


def test_what_an_instruction_holds_besides_ids_is_kept():
    hlo = sparse(module_bytes(scanned), 10**6)

    def held(raw):
        computations = analyze_bytes(raw).replay.module.computations.values()
        return [
            [(x.name, str(x.shape), x.raw_metadata, x.backend_config) for x in c.instructions] for c in computations
        ]

    assert held(with_dense_ids(hlo)) == held(hlo)


@pytest.mark.slow
@pytest.mark.once
def test_the_step_of_production_parses_and_replays_bit_for_bit():
    if not ORACLE.exists():
        pytest.skip("the oracle a100_step is not beside the repository")
    analysis = compare_module(ORACLE)
    assert analysis.matches_xla is True
    assert analysis.executed.flops == 9_353_037_967_954


def test_without_dense_ids_the_same_module_is_more_than_xla_can_hold():
    if not ORACLE.exists():
        pytest.skip("the oracle a100_step is not beside the repository")
    _, module = opened(lzma.decompress(ORACLE.read_bytes()))
    largest = [max(x.id for x in decode("ComputationNumbers", raw).instructions) for raw in module.computations]
    # 8 bytes an entry.
    assert sum(largest) * 8 > 2**32
