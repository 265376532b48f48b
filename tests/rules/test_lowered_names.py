"""The tables of names after lowering: each names a primitive that a rule counts."""

from __future__ import annotations

import pytest

import costax
from costax.rules import lowered_names


@pytest.mark.parametrize("table", ["COLLECTIVE_PRIMITIVES", "_ROUTINES"])
def test_every_primitive_of_a_table_has_a_rule(table):
    assert set(getattr(lowered_names, table).values()) <= set(costax.rules())


@pytest.mark.parametrize(
    ("target", "primitive"),
    [
        ("lapack_cgees_ffi", "schur"),
        ("cusolver_getrf_batched_ffi", "lu"),
        ("cusparse_gtsv2_ffi", "tridiagonal_solve"),
        ("hipsolver_geqrf", "geqrf"),
        ("cu_lu_pivots_to_permutation", None),
        ("cu_threefry2x32_ffi", None),
        ("my_lapack_sgesdd", None),
    ],
)
def test_a_custom_call_target_names_its_primitive(target, primitive):
    assert lowered_names.routine_primitive(target) == primitive
