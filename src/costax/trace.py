"""From what a user has in hand to a jaxpr: callables, modules, traced functions, jaxprs.

Nothing is executed and nothing is allocated: arrays are replaced by their shapes before jax sees them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from costax import _jax, frameworks
from costax.equation import Operand
from costax.errors import CostaxError, InputError, TargetError


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter leaf: which input of the jaxpr it is, its path in the arguments, its shape."""

    position: int
    path: str
    operand: Operand


@dataclass(frozen=True, slots=True)
class Program:
    """A traced function: its jaxpr before dead-code elimination, its inputs and which of them are parameters.

    `traced` is what jax can lower, where there is such a thing.
    """

    name: str
    jaxpr: Any
    inputs: tuple[tuple[str, Operand], ...]
    parameters: tuple[Parameter, ...] | None = None
    traced: Any = None


@dataclass(frozen=True, slots=True)
class Target:
    """Something to analyse together with its arguments: what a target factory may return.

    `params_argnums` says which positional arguments are parameters.
    """

    fn: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    params_argnums: int | Sequence[int] | None = None


def trace(
    fn: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    params_argnums: int | Sequence[int] | None = None,
) -> Program:
    """Trace a target with its arguments.

    Raises TargetError where there is nothing to trace, InputError where the arguments do not fit.
    """
    if _jax.is_traced(fn) or _jax.is_jaxpr(fn):
        _no_arguments(fn, args, kwargs)
        return _from_traced(fn) if _jax.is_traced(fn) else _from_jaxpr(fn)
    if _jax.is_lowered(fn) or _jax.is_compiled(fn):
        raise TargetError(
            f"A {type(fn).__name__} program no longer has its jaxpr.",
            why="costax counts the jaxpr: what the program asks for, before the compiler changes it.",
            cure="Keep the stage before: traced = jitted.trace(*args), then costax.analyze(traced)().",
        )
    bound = frameworks.bind(fn, args, kwargs, params_argnums)
    static = {
        key: value
        for key, value in (("static_argnums", static_argnums), ("static_argnames", static_argnames))
        if value != () and value is not None
    }
    if not callable(bound.function):
        raise TargetError(
            f"{fn!r} of type {type(fn).__name__} is not something to analyse.",
            why="costax traces callables.",
            cure="Pass a function, a jitted function, a Traced, a ClosedJaxpr, or a module of flax, equinox or haiku.",
        )
    abstract_args, abstract_kwargs = jax.tree.map(_abstract, (tuple(bound.args), dict(bound.kwargs)))
    try:
        with bound.scopes():
            traced = _jax.trace(bound.function, abstract_args, abstract_kwargs, static)
    except CostaxError:
        raise
    except (TypeError, ValueError, IndexError, NotImplementedError) as error:
        raise _does_not_trace(fn, bound.args, bound.kwargs, error) from error
    return _from_traced(traced, _name(fn), bound.parameters)


def _from_traced(traced: Any, name: str = "", is_parameter: Callable[[str], bool] | None = None) -> Program:
    jaxpr = traced.jaxpr
    avals = [v.aval for v in _jax.opened(jaxpr).invars]
    paths = [path for path, _ in _jax.leaf_paths(traced.args_info)]
    # jax may pass constants as leading inputs; they have no path.
    paths = [""] * (len(avals) - len(paths)) + paths
    inputs = tuple((path, _jax.operand(aval)) for path, aval in zip(paths, avals, strict=True))
    parameters = None
    if is_parameter is not None:
        parameters = tuple(
            Parameter(i, path, operand) for i, (path, operand) in enumerate(inputs) if path and is_parameter(path)
        )
    return Program(name or str(getattr(traced, "fun_name", "")), jaxpr, inputs, parameters, traced)


def _from_jaxpr(jaxpr: Any) -> Program:
    invars = _jax.opened(jaxpr).invars
    return Program("jaxpr", jaxpr, tuple((str(i), _jax.operand(v.aval)) for i, v in enumerate(invars)))


def _abstract(leaf: Any) -> Any:
    """Replace an array by its shape and dtype, so that no constant of its size is made."""
    if isinstance(leaf, np.ndarray):
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))
    return leaf


def _no_arguments(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if args or kwargs:
        raise InputError(
            f"A {type(fn).__name__} carries its arguments; {len(args) + len(kwargs)} more were given.",
            why="Its shapes are fixed already.",
            cure="Call without arguments: costax.analyze(traced)().",
        )


def _name(fn: Any) -> str:
    return str(getattr(fn, "__name__", "") or type(fn).__name__)


def _does_not_trace(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception) -> InputError:
    given = ", ".join(f"{path}: {_described(leaf)}" for path, leaf in _jax.leaf_paths((tuple(args), dict(kwargs))))
    return InputError(
        f"`{_name(fn)}` does not accept these arguments: {str(error).strip()}",
        where=_user_frame(error),
        why=f"It was called with {given or 'no arguments'}.",
        cure="Give each argument the shape and dtype that the function expects; make arguments that are not arrays static.",
    )


def _described(leaf: Any) -> str:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    return repr(leaf) if shape is None or dtype is None else str(_jax.operand(leaf))


def _user_frame(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _jax.is_user_file(frame.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
