"""Tracing: from a callable, a module, a traced function or a jaxpr to a Program with its jaxpr.

Nothing is executed and no array is allocated: jax gets the shapes of the arguments.
"""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from costax import _jax
from costax._jax import pytrees
from costax._jax.spec import with_specs
from costax.core.display import Printed
from costax.core.equation import Operand
from costax.core.foreign import message_of, representation
from costax.core.hints import hint
from costax.core.interrupts import Terminated
from costax.core.polynomial import Polynomial
from costax.core.polynomial.symbol_values import Condition
from costax.core.progress import stage
from costax.core.source_lines import is_installed
from costax.errors import CostaxError, InputError, TargetError
from costax.program import frameworks
from costax.program.results import arrays_of, check_computes

# The longest time in seconds for a trace with symbols. After that, formulas are interpolated from concrete sizes.
_PATIENCE = 10.0
_CONCRETE: Any = (jax.Array, np.ndarray)


class ScopesWarning(UserWarning):
    """A program cannot be traced with a scope for each layer; it was traced without these scopes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter leaf: its position among the inputs of the jaxpr, its path in the arguments, its shape and dtype."""

    position: int
    path: str
    operand: Operand


@dataclass(frozen=True, slots=True)
class Program:
    """A traced function: its jaxpr before dead-code elimination, its inputs, and which of them are parameters.

    traced: the `jax.stages.Traced` that jax can lower; None for a plain jaxpr. modules: the modules
    that it calls, by scope. conditions: constraints on the symbols. undecided: differences that the trace compared with
    0 and could not decide; it assumed that they are not 0. own_package: the folder or file of the installed package
    that defines the target, whose lines are the user's; "" if it is not installed.
    """

    name: str
    jaxpr: Any
    inputs: tuple[tuple[str, Operand], ...]
    parameters: tuple[Parameter, ...] | None = None
    traced: Any = None
    modules: frameworks.Modules = field(default_factory=frameworks.Modules)
    conditions: tuple[Condition, ...] = ()
    undecided: tuple[Any, ...] = ()
    own_package: str = ""

    def source_of(self, eqn: Any) -> str:
        """Return the user's `file:line` of an equation, or of a library if it has none."""
        return _jax.source(eqn, self.own_package)


@dataclass(frozen=True, slots=True)
class Target(Printed):
    """A program with its arguments, which a factory of the command line may return.

    Args:
        fn: Anything that `costax.analyze` accepts.
        args: Its positional arguments: arrays, shapes, or texts such as "f32[8,128]", in any pytree.
        kwargs: Its keyword arguments.
        params_argnums: The positional arguments that are parameters.
    """

    fn: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    params_argnums: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Replace texts by the arrays that they describe. Raises InputError for a text that is not a valid spec."""
        args, kwargs = with_specs(self.args, self.kwargs)
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", kwargs)

    def __repr__(self) -> str:
        """Return the name of the function and the number of its arguments."""
        parameters = "" if self.params_argnums is None else f", params_argnums={self.params_argnums}"
        return f"Target({_name(self.fn)}, {len(self.args)} arguments, kwargs={list(self.kwargs)}{parameters})"


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
    """Trace a target with its arguments; the options are those of `costax.analyze`.

    Raises TargetError if the target cannot be traced, InputError if the arguments do not fit.
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
            why="costax counts the jaxpr, the program before the compiler changes it.",
            cure="Pass the traced program: traced = jitted.trace(*args), then costax.analyze(traced)().",
        )
    name = _name(fn)
    if _jax.is_exported(fn):
        name, args, kwargs = fn.fun_name, *_of_exported(fn, args, kwargs)
        fn = fn.call
    check_computes(fn, name)
    _check_argument_numbers(fn, args, params_argnums)
    args, kwargs, scope = in_one_scope(args, kwargs)
    options = _Options(static_argnums, static_argnames, params_argnums)
    while scope is not None:
        own = _jax.tracing_scope(scope)
        try:
            program, decisions = _program(fn, name, *_moved_to_scope(args, kwargs, own), own, options)
        except CostaxError as error:
            # The function may close over dimensions of its arguments: `(n,) = x.shape; lambda x: x + jnp.zeros(n)`.
            if _jax.is_inconclusive(error):
                raise
            break
        # Another thread may have traced a function in this scope that this trace called.
        if not _jax.is_retired(own, by_others_than=decisions):
            return program
    return _program(fn, name, args, kwargs, scope, options)[0]


class _Options(NamedTuple):
    """The options of `trace`."""

    static_argnums: int | Sequence[int]
    static_argnames: str | Sequence[str]
    params_argnums: int | Sequence[int] | None


def _program(
    fn: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], scope: Any, options: _Options
) -> tuple[Program, _jax.Decisions]:
    """Trace a function with arguments whose symbolic dimensions are in a scope; also return what it decided by them."""
    try:
        with frameworks.collected() as modules, _plainly(scope) as decisions:
            bound = frameworks.bind(fn, args, kwargs, options.params_argnums)
            if not callable(bound.function):
                raise _not_callable(fn)
            static = {"static_argnums": options.static_argnums, "static_argnames": options.static_argnames}
            static = {name: value for name, value in static.items() if value != ()}
            closed = _close_over_static(bound, static)
            traced, paths = _traced(fn, args, kwargs, bound, closed)
    except (CostaxError, Terminated):
        raise
    except (Exception, SystemExit) as error:
        raise _does_not_trace(fn, args, kwargs, error) from error
    program = _from_traced(traced, bound.parameters, name, paths, _tied(bound))
    program = replace(
        program,
        conditions=(*conditions_of(scope), *map(_order_condition, decisions.orders.values())),
        undecided=tuple(decisions.undecided.values()),
        modules=modules,
        own_package=frameworks.own_package(fn),
    )
    return program, decisions


def in_one_scope(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any], Any]:
    """Return the arguments with all symbolic dimensions in one jax scope, and this scope; None without symbols.

    jax refuses to combine dimensions of different scopes. Raises InputError if two arguments constrain one symbol
    differently, or their constraints contradict each other.
    """
    leaves, _ = pytrees.flatten((tuple(args), dict(kwargs)))
    scopes = _jax.symbolic_scopes(leaves)
    if not scopes:
        return args, kwargs, None
    constrained = [scope for scope in scopes if _jax.scope_conditions(scope)]
    _check_bounds(constrained)
    try:
        scope = _jax.joined_scope(constrained or scopes)
    except Exception as error:  # ValueError, NotImplementedError: jax cannot combine the constraints
        raise InputError(
            f"jax cannot combine the constraints of the arguments: {error}",
            why="A symbol has the same value in all arguments of a call.",
            cure="Write each constraint once, in the spec of one argument.",
        ) from error
    return *_moved_to_scope(args, kwargs, scope), scope


def _order_condition(difference: Polynomial) -> Condition:
    return Condition(f"{difference} >= 0, for which einsum contracts in this order,", difference)


def _moved_to_scope(
    args: Sequence[Any], kwargs: Mapping[str, Any], scope: Any
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    leaves, tree = pytrees.flatten((tuple(args), dict(kwargs)))
    moved: tuple[Sequence[Any], Mapping[str, Any]] = pytrees.unflatten(
        tree, [_jax.moved_to_scope(leaf, scope) for leaf in leaves]
    )
    return moved


def _plainly(scope: Any) -> AbstractContextManager[_jax.Decisions]:
    return nullcontext(_jax.Decisions()) if scope is None else _jax.traced_as_plain(_PATIENCE)


def _check_bounds(scopes: Sequence[Any]) -> None:
    """Raise InputError if two specs have different constraints on one symbol alone."""
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
                    why="A symbol has the same value in all arguments of a call.",
                    cure="Write the bounds once, in the spec of one argument, or use two different symbols.",
                )


def conditions_of(scope: Any) -> tuple[Condition, ...]:
    """Return the constraints of a jax scope as conditions."""
    return () if scope is None else tuple(Condition(*parts) for parts in _jax.scope_conditions(scope))


@dataclass(frozen=True, slots=True)
class _Closed:
    """A function of arrays only. static: options of `jax.jit` for arguments that are still static.

    is_constant: says whether a leaf of the original arguments is a constant of the function.
    """

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    static: Mapping[str, Any]
    is_constant: Callable[[Any], bool] = lambda leaf: False


def _close_over_static(bound: frameworks.Bound, static: Mapping[str, Any]) -> _Closed:
    """Return a function of arrays that has all other argument leaves as constants.

    Each of its arguments is the tuple of leaves of an argument, with None for a constant: a class of the user is only
    rebuilt with all its leaves. A jitted function is returned unchanged, because its own static arguments decide.
    """
    args, kwargs = tuple(bound.args), dict(bound.kwargs)
    numbers = () if bound.eager else (bool, int, float, complex)

    def is_constant(leaf: Any) -> bool:
        return not (pytrees.is_array(leaf) or isinstance(leaf, numbers))

    if _jax.is_jitted(bound.function) or not (bound.module or any(map(is_constant, pytrees.leaves((args, kwargs))))):
        return _Closed(bound.function, args, kwargs, static)
    positional = [_Opened.of(arg, is_constant) for arg in args]
    named = {name: _Opened.of(arg, is_constant) for name, arg in kwargs.items()}

    @wraps(bound.function)
    def function(*args: Any, **kwargs: Any) -> Any:
        out = bound.function(
            *(opened.closed(leaves) for opened, leaves in zip(positional, args, strict=True)),
            **{name: named[name].closed(leaves) for name, leaves in kwargs.items()},
        )
        return arrays_of(out, _name(bound.function))

    # The argument numbers in `static` are those of the caller. An eager target has other arguments, and its static
    # leaves are constants already.
    return _Closed(
        function,
        [opened.arrays for opened in positional],
        {name: opened.arrays for name, opened in named.items()},
        {} if bound.eager else static,
        is_constant,
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    """An argument as its leaves. arrays: the leaves, None for a constant. constants: the others, by position."""

    structure: Any
    arrays: tuple[Any, ...]
    constants: Mapping[int, Any]

    @staticmethod
    def of(argument: Any, is_constant: Callable[[Any], bool]) -> _Opened:
        """Open an argument."""
        leaves, structure = pytrees.flatten(argument)
        constants = {i: leaf for i, leaf in enumerate(leaves) if is_constant(leaf)}
        return _Opened(structure, tuple(None if i in constants else x for i, x in enumerate(leaves)), constants)

    def closed(self, leaves: Sequence[Any]) -> Any:
        """Return the argument with other arrays, such as tracers."""
        return pytrees.unflatten(self.structure, [self.constants.get(i, leaf) for i, leaf in enumerate(leaves)])


def _traced(
    fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], bound: frameworks.Bound, closed: _Closed
) -> tuple[Any, Sequence[str]]:
    """Return the Traced and the path of each of its inputs.

    If the program cannot be traced with a scope for each layer, it is traced without these scopes, with a warning. The
    fused attention of cuDNN is traced without a GPU, too.
    """
    jitted = _jax.jitted(closed.function, closed.static)
    scopes = frameworks.scope_context(fn, args, kwargs)
    if scopes is None:
        with _jax.assumed_present():
            traced = jitted.trace(*closed.args, **closed.kwargs)
    else:
        try:
            with scopes, _jax.assumed_present():
                traced = jitted.trace(*closed.args, **closed.kwargs)
        except CostaxError:
            raise
        except Exception as error:
            with _jax.assumed_present():
                traced = jitted.trace(*closed.args, **closed.kwargs)
            failed = f"tracing with them failed ({message_of(error)})"
            what = f"costax added no scopes for the layers of `{_name(fn)}`: {failed}."
            warnings.warn(what, ScopesWarning, stacklevel=5)
    numbers, names = _jax.static_arguments(jitted, len(closed.args))
    dynamic = (
        [None if n in numbers else arg for n, arg in enumerate(bound.args)],
        {name: None if name in names else arg for name, arg in bound.kwargs.items()},
    )
    return traced, [path for path, leaf in pytrees.leaf_paths(dynamic) if not closed.is_constant(leaf)]


def _from_traced(
    traced: Any,
    is_parameter: Callable[[str], bool] | None = None,
    name: str = "",
    paths: Sequence[str] = (),
    tied: frozenset[str] = frozenset(),
) -> Program:
    jaxpr = traced.jaxpr
    avals = [v.aval for v in _jax.opened(jaxpr).invars]
    own = list(paths) if len(paths) == _jax.leaf_count(traced) else _jax.argument_paths(traced)
    # jax may put constants before the arguments; constants have no path.
    own = [""] * (len(avals) - len(own)) + own
    _check_extents(avals, own)
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
    """Return the paths of parameters whose array also has an earlier path: tied parameters.

    Only arrays can be recognised as tied, because one ShapeDtypeStruct object may describe many arrays.
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
    return _jax.argument_count(fn) if _jax.is_traced(fn) else len(_jax.opened(fn).invars)


def _no_arguments(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if args or kwargs:
        raise InputError(
            f"A {type(fn).__name__} already has its arguments, and got {len(args) + len(kwargs)} more.",
            why="The shapes of its arguments are fixed.",
            cure="Call without arguments: costax.analyze(traced)().",
        )


def _check_argument_numbers(fn: Any, args: Sequence[Any], numbers: int | Sequence[int] | None) -> None:
    for number in () if numbers is None else (numbers,) if isinstance(numbers, int) else numbers:
        if not isinstance(number, int) or isinstance(number, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                f"params_argnums must be an integer or integers, got {numbers!r}.",
                why="They are the numbers of the positional arguments that are parameters.",
                cure="Pass for example params_argnums=0, or params_argnums=(0, 2).",
            )
        if not -len(args) <= number < len(args):
            raise InputError(
                f"{hint('params_argnums', '--params')} has {number}, but `{_name(fn)}` got {len(args)} positional "
                "arguments.",
                why="costax would find no parameters.",
                cure="Number the positional arguments from 0, and pass the parameters by position.",
            )


def _of_exported(
    exported: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments of an exported function: those given, else its own, if their sizes are numbers."""
    own = (args, kwargs) if args or kwargs else _jax.exported_arguments(exported)
    if own is None:
        raise InputError(
            f"The exported function `{exported.fun_name}` has symbolic sizes, and got no arguments.",
            why="costax counts an exported function for sizes that are numbers.",
            cure="Give it arguments: costax.analyze(exported)(jax.ShapeDtypeStruct((8, 128), jnp.float32)).",
        )
    return own


def _not_callable(fn: Any) -> TargetError:
    text = " ".join(representation(fn).split())
    return TargetError(
        f"costax cannot analyse {text if len(text) <= 80 else text[:77] + '...'} of type {type(fn).__name__}.",
        why="costax traces a callable to a jaxpr.",
        cure="Pass a function, a jitted function, a Traced, an Exported, a ClosedJaxpr, or a module of flax, equinox, "
        "haiku or torch.",
    )


def _name(fn: Any) -> str:
    return str(getattr(fn, "__name__", "") or type(fn).__name__)


# How many arguments an error lists.
_SHOWN = 12
_SHAPES_CURE = (
    "Pass the shape and dtype that the function expects for each argument. "
    "Make Python values static with static_argnums or static_argnames."
)
# Words in the messages of jax and of the libraries about arguments whose shapes or dtypes do not fit.
_ABOUT_SHAPES = re.compile(
    r"\b(shapes?|dtypes?|ndims?|ranks?|dimensions?|axis|axes|broadcast\w*|contract\w*|scalars?|sizes?|"
    r"index out of range|abstract array)\b",
    re.IGNORECASE,
)


# The message for an argument that is a tuple or list of integers where the function takes an array.
_OF_A_SEQUENCE = re.compile(r"\b(tuple|list)\b")
# The messages for an array where the function takes a dict, or an object with attributes.
_OF_A_PYTREE = re.compile(r"JAX does not support string indexing|Tracer\b.* has no attribute")


def _pytree_cure() -> str:
    return hint(
        'If the function takes a pytree there, pass one whose leaves are shapes: {"w": "f32[8,128]"}.',
        "If the function takes a pytree there, use a factory: --input cannot describe one, and "
        'costax.Target(fn, ({"w": "f32[8,128]"},)) can.',
    )


def _does_not_trace(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], error: BaseException) -> CostaxError:
    """Return the error for a function that raised an exception while jax traced it.

    The arguments are blamed where they do not fit the signature, or where a library says that their shapes do not fit.
    Any other exception is the function's own: it comes first, and whole.
    """
    leaves = [_argument_text(path, leaf) for path, leaf in pytrees.leaf_paths((tuple(args), dict(kwargs)))]
    listed = ", ".join(leaves[:_SHOWN]) + (f" and {len(leaves) - _SHOWN} more" if len(leaves) > _SHOWN else "")
    text, frame = _exception_text(error), _user_frame(error)
    where = f"{frame.filename}:{frame.lineno}" if frame else ""
    about_shapes = isinstance(error, TypeError | ValueError | IndexError) and _ABOUT_SHAPES.search(text) is not None
    shape = _shape_among((*args, *kwargs.values())) if _OF_A_SEQUENCE.search(text) else ""
    raised_here = frame is not None and re.search(r"\b(raise|assert)\b", frame.line or "") is not None
    if not _takes(fn, args, kwargs) or (about_shapes and not raised_here and not _jax.needs_values(error)):
        return InputError(
            f"`{_name(fn)}` does not accept these arguments: {text}",
            where=where,
            why=f"The arguments are: {listed or 'none'}.",
            cure=f'{_SHAPES_CURE} Write a shape as a text: "f32[{shape}]".' if shape else _SHAPES_CURE,
        )
    if _jax.needs_values(error):
        cure = (
            "Write `jnp.where` or `jax.lax.cond` for an `if` on an array, and `jnp` for `np`; or make the argument "
            "static with static_argnums or static_argnames, if it is a Python value."
        )
    elif about_shapes:
        cure = _SHAPES_CURE
    elif shape:
        cure = f'Write a shape as a text: "f32[{shape}]". A tuple or list of integers is a pytree of integers.'
    elif _OF_A_PYTREE.search(text) is not None and not raised_here:
        cure = _pytree_cure()
    else:
        cure = "Correct the error, which also occurs when jax traces the function, as in jax.eval_shape or jax.jit."
    return InputError(
        text, where=where, why=f"`{_name(fn)}` raised it when it was traced with {listed or 'no arguments'}.", cure=cure
    )


def _shape_among(arguments: Sequence[Any]) -> str:
    """Return the extents of the first argument that looks like a shape, a tuple or list of integers: "8,128"; or ""."""
    for argument in arguments:
        extents = cast("Sequence[Any]", argument) if isinstance(argument, tuple | list) else ()
        if extents and all(type(extent) is int for extent in extents):
            return ",".join(map(str, extents))
    return ""


def _exception_text(error: BaseException) -> str:
    """Return the class, message and notes of an exception, without the note of jax about its tracebacks."""
    notes = [note for note in getattr(error, "__notes__", ()) if "removed its internal frames" not in note]
    message = message_of(error)
    return "\n".join([f"{type(error).__name__}: {message}" if message else type(error).__name__, *notes])


def _takes(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Say whether arguments fit the signature of a function; True where it has none."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _check_extents(avals: Sequence[Any], paths: Sequence[str]) -> None:
    """Refuse negative extents, which jax traces, and which would make negative counts."""
    for aval, path in zip(avals, paths, strict=True):
        if any(isinstance(extent, int) and extent < 0 for extent in getattr(aval, "shape", ())):
            raise InputError(
                f"An argument has a negative extent: {_argument_text(path, aval)}.",
                why="No array has this shape, and the counts would be negative.",
                cure="Correct the shape of the argument.",
            )


def _argument_text(path: str, leaf: Any) -> str:
    """Return an argument as text, `argument 0, layer/w: f32[8,4]` or `train=True`."""
    kind, _, rest = path.partition("/")
    head, _, inside = rest.partition("/")
    name = f"argument {head}" if kind == "0" else head
    return f"{name}{f', {inside}' if inside else ''}: {_described(leaf)}"


def _described(leaf: Any) -> str:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None:
        return type(leaf).__name__ if frameworks.is_module(leaf) else representation(leaf)
    return str(_jax.operand(frameworks.abstract(leaf)))


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame of the user's own files, or else of the library that the user calls."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _jax.is_user_file(frame.filename)]
    own = [frame for frame in frames if not is_installed(frame.filename)] or frames
    return own[-1] if own else None
