"""Fingerprints of jaxprs: two traces of the same program have equal fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from jax._src import core as _core

from costax._jax.jaxprs import constants, is_jaxpr, is_literal, opened
from costax._jax.source_info import name_stack

_internals: Any = _core


def fingerprint(jaxpr: Any, more: object = None) -> str:
    """Return a SHA-256 digest of a jaxpr and of `more`, any value with a stable repr.

    The digest covers primitives, parameters, shapes, scopes and the data flow, but no source lines. If the repr of a
    parameter contains a memory address, two traces of the program have different fingerprints.
    """
    return hashlib.sha256(f"{_Fingerprinter().jaxpr(jaxpr)}{more!r}".encode()).hexdigest()


class _Fingerprinter:
    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._alive: list[Any] = []

    def jaxpr(self, jaxpr: Any) -> str:
        if id(jaxpr) not in self._known:
            self._known[id(jaxpr)] = self._digest(jaxpr)
            self._alive.append(jaxpr)
        return self._known[id(jaxpr)]

    def _digest(self, jaxpr: Any) -> str:
        inner = opened(jaxpr)
        numbers: dict[Any, int] = {}
        digest = hashlib.sha256()

        def number(var: Any) -> str:
            return f"{numbers.setdefault(var, len(numbers))}:{var.aval}"

        def atom(value: Any) -> str:
            return f"={self._value(value.val)}:{value.aval}" if is_literal(value) else number(value)

        for var in (*inner.constvars, *inner.invars):
            digest.update(number(var).encode())
        for value in constants(jaxpr):
            digest.update(str((getattr(value, "shape", ()), getattr(value, "dtype", ""))).encode())
        for eqn in inner.eqns:
            parts = [eqn.primitive.name, str(name_stack(eqn))]
            parts += map(atom, eqn.invars)
            parts += (f"{name}={self._value(value)}" for name, value in sorted(eqn.params.items()))
            parts += map(number, eqn.outvars)
            digest.update("\0".join(parts).encode())
        for value in inner.outvars:
            digest.update(atom(value).encode())
        return digest.hexdigest()

    def _value(self, value: Any) -> str:
        if is_jaxpr(value):
            return self.jaxpr(value)
        if isinstance(value, tuple | list):
            return f"({','.join(map(self._value, cast('Sequence[Any]', value)))})"
        if isinstance(value, Mapping):
            parts = cast("Mapping[Any, Any]", value).items()
            return f"{{{','.join(f'{key}:{self._value(part)}' for key, part in parts)}}}"
        if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
            array: Any = np.asarray(cast(Any, value))
            return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
        return repr(value)
