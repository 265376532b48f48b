"""Names after lowering: which primitive a collective of HLO or a routine of LAPACK computes.

Compiled modules (`costax.hlo`) and exported functions (`rules.higher_order.stablehlo`) both read these tables, so that
the rule of the primitive counts the operation in either form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

COLLECTIVE_PRIMITIVES: Final[Mapping[str, str]] = {
    "all-reduce": "psum",
    "all-gather": "all_gather",
    "reduce-scatter": "reduce_scatter",
    "all-to-all": "all_to_all",
    "ragged-all-to-all": "ragged_all_to_all",
    "collective-broadcast": "pbroadcast",
    "collective-permute": "ppermute",
}
"""HLO opcode of a collective: the primitive whose rule says what a device sends. StableHLO writes `all_reduce`."""

_ROUTINES: Final[Mapping[str, str]] = {
    "potrf": "cholesky",
    "getrf": "lu",
    "geqrf": "geqrf",
    "geqp3": "geqp3",
    "orgqr": "householder_product",
    "ungqr": "householder_product",
    "ormqr": "ormqr",
    "unmqr": "ormqr",
    "syevd": "eigh",
    "heevd": "eigh",
    "syevj": "eigh",
    "gesdd": "svd",
    "gesvd": "svd",
    "gesvdj": "svd",
    "gesvdp": "svd",
    "geev": "eig",
    "gees": "schur",
    "gehrd": "hessenberg",
    "sytrd": "tridiagonal",
    "hetrd": "tridiagonal",
    "trsm": "triangular_solve",
    "gtsv": "tridiagonal_solve",
    "gtsv2": "tridiagonal_solve",
    "syrk": "symmetric_product",
}
# Implementation, dtype, routine, interface: `lapack_sgesdd_ffi`, `cusolver_potrf_ffi`, `cusparse_gtsv2_ffi`.
_TARGET: Final = re.compile(r"(?:lapack_[sdcz]|cu\w*?_|hip\w*?_|roc\w*?_)([a-z]+\d?)(?:_batched)?(?:_ffi)?")
# LAPACK's options are letters, which the configuration of a call holds as numbers.
_VECTORS, _ALL, _NONE, _UNIT = (ord(letter) for letter in "VANU")


def routine_primitive(target: str) -> str | None:
    """Return the primitive that a custom call of LAPACK, cuSOLVER or cuSPARSE computes, None for any other target.

    >>> routine_primitive("lapack_sgesdd_ffi"), routine_primitive("cusolver_potrf_ffi"), routine_primitive("Sharding")
    ('svd', 'cholesky', None)
    """
    match = _TARGET.fullmatch(target)
    return _ROUTINES.get(match[1]) if match else None


def routine_params(options: Mapping[str, int]) -> dict[str, Any]:
    """Return the parameters of the primitive from the options of the call; the rule of the primitive takes its own.

    The LAPACK option `mode` is a letter's number, as 65 for "A" (all vectors); cuSOLVER has `compute_uv` and
    `full_matrices` instead. A call without either is taken to return all vectors.

    >>> params = routine_params({"mode": ord("S")})
    >>> params["compute_uv"], params["full_matrices"]
    (True, False)
    """
    mode = options.get("mode", _ALL)
    return {
        "left": bool(options.get("left", True)),
        "compute_uv": bool(options.get("compute_uv", mode != _NONE)),
        "full_matrices": bool(options.get("full_matrices", mode == _ALL)),
        "compute_left_eigenvectors": options.get("compute_left") == _VECTORS,
        "compute_right_eigenvectors": options.get("compute_right") == _VECTORS,
        "compute_schur_vectors": mode == _VECTORS,
        "unit_diagonal": options.get("diag") == _UNIT,
    }
