"""From what a user has in hand to a jaxpr: callables, modules, traced functions, jaxprs.

Nothing is executed and nothing is allocated: arrays are replaced by their shapes before jax sees them.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

import jax
import numpy as np

from costax import _jax
from costax._jax import pytrees
from costax.core.equation import Operand
from costax.core.polynomial.symbol_values import Condition
from costax.core.progress import stage
from costax.errors import CostaxError, InputError, TargetError
from costax.program import frameworks

# Seconds in which a program is traced with symbols; then it is analysed with numbers instead.
_PATIENCE = 10.0
_CONCRETE: Any = (jax.Array, np.ndarray)


class ScopesWarning(UserWarning):
    """A program does not trace with one scope a layer; it was traced as it is."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter leaf: which input of the jaxpr it is, its path in the arguments, its shape."""

    position: int
    path: str
    operand: Operand


@dataclass(frozen=True, slots=True)
class Program:
    """A traced function: its jaxpr before dead-code elimination, its inputs and which of them are parameters.

    `traced` is what jax can lower, where there is such a thing. `conditions` are the constraints on its symbols;
    `undecided` is what it compared with 0 while it was traced, and took for something else.
    `kinds` names the class of the module that a scope is.
    """

    name: str
    jaxpr: Any
    inputs: tuple[tuple[str, Operand], ...]
    parameters: tuple[Parameter, ...] | None = None
    traced: Any = None
    kinds: Mapping[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    conditions: tuple[Condition, ...] = ()
    undecided: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Something to analyse together with its arguments: what a target factory may return.

    `params_argnums` says which positional arguments are parameters.
    """

    fn: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    params_argnums: int | Sequence[int] | None = None


@stage("tracing")
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
    if isinstance(fn, Target):
        _no_arguments(fn, args, kwargs)
        args, kwargs = fn.args, fn.kwargs
        params_argnums = fn.params_argnums if params_argnums is None else params_argnums
        fn = fn.fn
    if _jax.is_traced(fn) or _jax.is_jaxpr(fn):
        _no_arguments(fn, args, kwargs)
        known = None if params_argnums is None else frameworks.arguments(params_argnums, _argument_count(fn))
        return _from_traced(fn, known) if _jax.is_traced(fn) else _from_jaxpr(fn, known)
    if _jax.is_lowered(fn) or _jax.is_compiled(fn):
        raise TargetError(
            f"A {type(fn).__name__} program no longer has its jaxpr.",
            why="costax counts the jaxpr: what the program asks for, before the compiler changes it.",
            cure="Keep the stage before: traced = jitted.trace(*args), then costax.analyze(traced)().",
        )
    _check_argument_numbers(fn, args, params_argnums)
    args, kwargs, scope = in_one_scope(args, kwargs)
    try:
        with frameworks.collected() as kinds, _plainly(scope) as undecided:
            bound = frameworks.bind(fn, args, kwargs, params_argnums)
            if not callable(bound.function):
                raise _not_callable(fn)
            static = {"static_argnums": static_argnums, "static_argnames": static_argnames}
            static = {name: value for name, value in static.items() if value != ()}
            held = _held_static(bound, static)
            traced, paths = _traced(fn, args, kwargs, held)
    except CostaxError:
        raise
    except Exception as error:
        raise _does_not_trace(fn, args, kwargs, error) from error
    program = _from_traced(traced, bound.parameters, _name(fn), paths, _tied(bound))
    return replace(program, conditions=conditions_of(scope), undecided=tuple(undecided.values()), kinds=kinds)


def in_one_scope(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any], Any]:
    """Return the arguments with all symbolic dimensions in one scope, and the scope; None where there are none.

    Raises InputError where two arguments bound one symbol differently.
    """
    leaves, tree = pytrees.flatten((tuple(args), dict(kwargs)))
    scopes = _jax.symbolic_scopes(leaves)
    if not scopes:
        return args, kwargs, None
    constrained = [scope for scope in scopes if _jax.scope_conditions(scope)]
    _check_bounds(constrained)
    try:
        scope = _jax.joined_scope(constrained or scopes)
    except Exception as error:  # ValueError, NotImplementedError: jax's words for constraints that do not go together
        raise InputError(
            f"The constraints of the arguments do not go together: {error}",
            why="The arguments of a call share their symbols.",
            cure="Give each constraint once, in the spec of one argument.",
        ) from error
    args, kwargs = pytrees.unflatten(tree, [_jax.moved_to_scope(leaf, scope) for leaf in leaves])
    return args, kwargs, scope


def _plainly(scope: Any) -> AbstractContextManager[Mapping[str, Any]]:
    return nullcontext(dict[str, Any]()) if scope is None else _jax.traced_as_plain(_PATIENCE)


def _check_bounds(scopes: Sequence[Any]) -> None:
    """Refuse two specs that constrain one symbol on its own, each otherwise."""
    seen: dict[str, frozenset[str]] = {}
    for scope in scopes:
        own: dict[str, set[str]] = {}
        for text, difference, _ in _jax.scope_conditions(scope):
            if len(difference.symbols) == 1:
                own.setdefault(difference.symbols[0], set()).add(text)
        for name, texts in own.items():
            if seen.setdefault(name, frozenset(texts)) != frozenset(texts):
                raise InputError(
                    f"The symbol `{name}` has different bounds: {', '.join(sorted(seen[name]))} in one argument and "
                    f"{', '.join(sorted(texts))} in another.",
                    why="A symbol stands for the same size in all arguments of a call.",
                    cure="Give its bounds once, in the spec of one argument, or call one of the two by another name.",
                )


def conditions_of(scope: Any) -> tuple[Condition, ...]:
    """Return what the constraints of a scope demand."""
    return () if scope is None else tuple(Condition(*found) for found in _jax.scope_conditions(scope))


@dataclass(frozen=True, slots=True)
class _Held:
    """A function of arrays alone."""

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    static: Mapping[str, Any]


def _held_static(bound: frameworks.Bound, static: Mapping[str, Any]) -> _Held:
    """Hold what is no array inside the function, and leave None in its place; a jitted function decides for itself."""
    args, kwargs = tuple(bound.args), dict(bound.kwargs)
    if _jax.is_jitted(bound.function):
        return _Held(bound.function, args, kwargs, static)
    leaves, tree = pytrees.flatten((args, kwargs))
    numbers = () if bound.eager else (bool, int, float, complex)
    constant = {i: x for i, x in enumerate(leaves) if not (pytrees.is_array(x) or isinstance(x, numbers))}
    if not constant and not bound.module:
        return _Held(bound.function, args, kwargs, static)

    @wraps(bound.function)
    def function(*args: Any, **kwargs: Any) -> Any:
        given = tree.flatten_up_to((args, kwargs))
        args, kwargs = pytrees.unflatten(tree, [constant.get(i, x) for i, x in enumerate(given)])
        out = bound.function(*args, **kwargs)
        return [x for x in pytrees.leaves(out) if pytrees.is_array(x) or isinstance(x, (bool, int, float, complex))]

    args, kwargs = pytrees.unflatten(tree, [None if i in constant else x for i, x in enumerate(leaves)])
    # The arguments of an eager target are not the caller's, and all that is static in them is held already.
    return _Held(function, args, kwargs, {} if bound.eager else static)


def _traced(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], held: _Held) -> tuple[Any, Sequence[str]]:
    """Return the Traced and the path of each of its inputs; a program that our scopes break is traced without them."""
    jitted = _jax.jitted(held.function, held.static)
    scopes = frameworks.scopes(fn, args, kwargs)
    if scopes is None:
        traced = jitted.trace(*held.args, **held.kwargs)
    else:
        try:
            with scopes:
                traced = jitted.trace(*held.args, **held.kwargs)
        except Exception as error:
            traced = jitted.trace(*held.args, **held.kwargs)
            what = f"The layers of `{_name(fn)}` have no scopes: it does not trace with them ({error})."
            warnings.warn(what, ScopesWarning, stacklevel=5)
    numbers, names = _jax.static_arguments(jitted, len(held.args))
    dynamic = (
        [None if n in numbers else arg for n, arg in enumerate(held.args)],
        {name: None if name in names else arg for name, arg in held.kwargs.items()},
    )
    return traced, [path for path, _ in pytrees.leaf_paths(dynamic)]


def _from_traced(
    traced: Any,
    is_parameter: Callable[[str], bool] | None = None,
    name: str = "",
    paths: Sequence[str] = (),
    tied: frozenset[str] = frozenset(),
) -> Program:
    jaxpr = traced.jaxpr
    avals = [v.aval for v in _jax.opened(jaxpr).invars]
    own = [path for path, _ in pytrees.leaf_paths(traced.args_info)]
    if len(paths) == len(own):
        own = list(paths)
    # jax may pass constants as leading inputs; they have no path.
    own = [""] * (len(avals) - len(own)) + own
    inputs = tuple((path, _jax.operand(aval)) for path, aval in zip(own, avals, strict=True))
    return Program(
        name or str(getattr(traced, "fun_name", "")), jaxpr, inputs, _parameters(inputs, is_parameter, tied), traced
    )


def _parameters(
    inputs: Sequence[tuple[str, Operand]],
    is_parameter: Callable[[str], bool] | None,
    tied: frozenset[str] = frozenset(),
) -> tuple[Parameter, ...] | None:
    if is_parameter is None:
        return None
    return tuple(
        Parameter(i, path, operand)
        for i, (path, operand) in enumerate(inputs)
        if path and path not in tied and is_parameter(path)
    )


def _tied(bound: frameworks.Bound) -> frozenset[str]:
    """Return the paths of parameters whose array stood at an earlier path.

    Only arrays tell: one ShapeDtypeStruct may describe many arrays.
    """
    seen: set[int] = set()
    tied: set[str] = set()
    for path, leaf in pytrees.leaf_paths((tuple(bound.args), dict(bound.kwargs))):
        if isinstance(leaf, _CONCRETE) and bound.parameters is not None and bound.parameters(path):
            if id(leaf) in seen:
                tied.add(path)
            seen.add(id(leaf))
    return frozenset(tied)


def _from_jaxpr(jaxpr: Any, is_parameter: Callable[[str], bool] | None) -> Program:
    invars = _jax.opened(jaxpr).invars
    inputs = tuple((f"0/{i}", _jax.operand(v.aval)) for i, v in enumerate(invars))
    return Program("jaxpr", jaxpr, inputs, _parameters(inputs, is_parameter))


def _argument_count(fn: Any) -> int:
    return len(fn.args_info[0]) if _jax.is_traced(fn) else len(_jax.opened(fn).invars)


def _no_arguments(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if args or kwargs:
        raise InputError(
            f"A {type(fn).__name__} carries its arguments; {len(args) + len(kwargs)} more were given.",
            why="Its shapes are fixed already.",
            cure="Call without arguments: costax.analyze(traced)().",
        )


def _check_argument_numbers(fn: Any, args: Sequence[Any], numbers: int | Sequence[int] | None) -> None:
    for number in () if numbers is None else (numbers,) if isinstance(numbers, int) else numbers:
        if not -len(args) <= number < len(args):
            raise InputError(
                f"params_argnums names argument {number} of `{_name(fn)}`, which was given {len(args)}.",
                why="The parameters would be counted as none.",
                cure="Number the positional arguments from 0, and pass parameters by position.",
            )


def _not_callable(fn: Any) -> TargetError:
    return TargetError(
        f"{fn!r} of type {type(fn).__name__} is not something to analyse.",
        why="costax traces callables.",
        cure="Pass a function, a jitted function, a Traced, a ClosedJaxpr, or a module of flax, equinox or haiku.",
    )


def _name(fn: Any) -> str:
    return str(getattr(fn, "__name__", "") or type(fn).__name__)


# How many arguments an error lists.
_SHOWN = 12


def _does_not_trace(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception) -> CostaxError:
    leaves = [_given(path, leaf) for path, leaf in pytrees.leaf_paths((tuple(args), dict(kwargs)))]
    given = ", ".join(leaves[:_SHOWN]) + (f" and {len(leaves) - _SHOWN} more" if len(leaves) > _SHOWN else "")
    return InputError(
        f"`{_name(fn)}` does not accept these arguments: {type(error).__name__}: {str(error).strip()}",
        where=_user_frame(error),
        why=f"It was called with {given or 'no arguments'}.",
        cure="Give each argument the shape and dtype that the function expects; "
        "hold Python values static with static_argnums or static_argnames.",
    )


def _given(path: str, leaf: Any) -> str:
    """Describe an argument as `argument 0, layer/w: f32[8,4]` or `train=True`."""
    kind, _, rest = path.partition("/")
    head, _, inside = rest.partition("/")
    name = f"argument {head}" if kind == "0" else head
    return f"{name}{f', {inside}' if inside else ''}: {_described(leaf)}"


def _described(leaf: Any) -> str:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    return repr(leaf) if shape is None or dtype is None else str(_jax.operand(leaf))


def _user_frame(error: BaseException) -> str:
    """Return the innermost line of the user's own, or else of the library that the user calls."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _jax.is_user_file(frame.filename)]
    own = [frame for frame in frames if not frameworks.is_library_file(frame.filename)] or frames
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""
