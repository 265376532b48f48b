"""Targets of the command line, `package.module:name` or `path/to/file.py:name`, with the shapes of their arguments.

The name is a callable, a module, or a factory without arguments that returns `(fn, args)`, `(fn, args, kwargs)` or a
`costax.Target`. An error in a user's file names the file and the line.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn, cast

from costax._jax import is_user_file
from costax._jax.spec import spec
from costax.core.foreign import message_of, representation
from costax.core.interrupts import Terminated
from costax.core.progress import stage
from costax.core.source_lines import is_installed
from costax.errors import CostaxError, InputError, TargetError, install_command
from costax.program import frameworks
from costax.program.results import check_computes
from costax.program.trace import Target

_GRAMMAR: Final = "Write package.module:name or path/to/file.py:name, for example examples/resnet.py:resnet18."
# (file or module, name) -> value. A sweep loads the same target for each point, and a file must be imported once.
_LOADED: Final[dict[tuple[str, str], Any]] = {}
_FACTORY: Final = "Return (fn, args), (fn, args, kwargs) or costax.Target(fn, args, kwargs)."

EXTRAS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("torch", "torchax"), "torch"),
    **dict.fromkeys(("flax", "haiku", "equinox", "optax"), "examples"),
}
"""The extra of costax that installs a module which programs import, by the name of the module."""

_PYTREE: Final = (
    "--input cannot describe a pytree, such as a dict of parameters: use a factory, which returns costax.Target(fn, "
    "args)."
)

_RECORDS: Final = "`costax show FILE` shows records of analyze and compare."
_MODULES: Final = "predict, memory, fits, diff, show, analyze and compare take HLO files."


def load_attribute(text: str) -> Any:
    """Return the value of a target. Raises TargetError if the target does not exist."""
    location, name = _split(text)
    key = (location, name)
    if key not in _LOADED:
        is_file = location.endswith(".py") or "/" in location or "\\" in location
        _LOADED[key] = _attribute(_from_file(location) if is_file else _from_module(location), name, location)
    return _LOADED[key]


def _split(text: str) -> tuple[str, str]:
    location, colon, name = text.rpartition(":")
    if not (location and colon and name):
        if Path(text).is_file() and not text.endswith(".py"):
            raise TargetError(
                f"{text!r} is not a Python file.",
                why="A .json file holds numbers of a program, not the program."
                if text.endswith(".json")
                else "This command traces the program itself, which an HLO file does not hold.",
                cure=f"{_GRAMMAR} {_RECORDS if text.endswith('.json') else _MODULES}",
            )
        raise TargetError(
            f"{text!r} is not a target.",
            why="A target is a file or a module, a colon, and a name in it.",
            cure=_GRAMMAR,
        )
    return location, name


@stage("importing")
def load_target(text: str, inputs: Sequence[str] = ()) -> Target:
    """Return the program of a target, with its arguments.

    inputs: the specs of the arguments for a target that is not a factory, such as `f32[8,128]`, or `mask=bool[8]` for
    a keyword argument. Raises TargetError if the target does not exist or its import fails, InputError if the inputs do
    not fit the function.
    """
    location, name = _split(text)
    args, kwargs = _specs(inputs)
    is_file = location.endswith(".py") or "/" in location or "\\" in location
    value = _attribute(_from_file(location) if is_file else _from_module(location), name, location)
    if inputs:
        return _with_inputs(value, name, args, kwargs)
    if isinstance(value, Target) or type(value) is tuple:
        return _as_target(value, name)
    return _as_target(_called(value, name), name, _definition_line(value))


def _specs(inputs: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in inputs:
        keyword = re.match(r"\s*([A-Za-z_]\w*)\s*=", text)
        if keyword:
            kwargs[keyword[1]] = spec(text[keyword.end() :])
        else:
            args.append(spec(text))
    return args, kwargs


# From the text of a target to a Python value.


def _from_file(location: str) -> ModuleType:
    path = Path(location).absolute()
    if not path.is_file():
        raise TargetError(
            f"{location!r} is a directory." if path.is_dir() else f"There is no file {location!r}.",
            why="costax imports the file to find the target in it.",
            cure=_nearest(path.name, _python_files(path)) or _GRAMMAR,
        )
    # The folder of the file comes first in sys.path, so that the file can import files next to it, as a script can. A
    # file such as `jax.py` gets another module name, so that it does not replace the installed module.
    name = path.stem if path.stem.isidentifier() and importlib.util.find_spec(path.stem) is None else f"_{path.stem}"
    _search_first(str(path.parent))
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise TargetError(
            f"{location!r} is not a Python file.",
            why="costax imports the file to find the target in it.",
            cure=_GRAMMAR,
        )
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    loader = module_spec.loader
    try:
        _imported(lambda: loader.exec_module(module), location)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_module(location: str) -> ModuleType:
    _search_first(str(Path.cwd()))
    try:
        return _imported(lambda: importlib.import_module(location), location)
    except TargetError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and f"{location}.".startswith(f"{cause.name}."):
            raise TargetError(
                f"There is no module {cause.name!r}.",
                why="costax imports the module to find the target in it.",
                cure="Install the module, run costax in its directory, or use its file: path/to/file.py:name.",
            ) from cause
        raise


def _imported(load: Callable[[], Any], location: str) -> Any:
    try:
        return load()
    except (CostaxError, KeyboardInterrupt, Terminated):
        raise
    except SyntaxError as error:
        raise TargetError(
            f"{location!r} has a syntax error: {error.msg}.",
            where=f"{error.filename or location}:{error.lineno or 1}",
            why="costax imports the file to find the target in it.",
            cure="Correct the line, or choose another file.",
        ) from error
    except BaseException as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        raise TargetError(
            f"Importing {location!r} raised {_error_text(error)}.",
            where=_user_line(error),
            why="costax imports the module to find the target in it.",
            cure=_installed_by(absent.partition(".")[0])
            if absent
            else "Correct the error, which also occurs when Python imports the module; --debug shows the traceback.",
        ) from error


def _installed_by(module: str) -> str:
    """Return how to install a module: with an extra of costax, whose versions work together, if one has it."""
    extra = EXTRAS.get(module)
    return (
        f"Install `{module}` in a version that works with costax: {install_command(extra)}"
        if extra
        else f"Install the package that provides `{module}`."
    )


def _attribute(module: ModuleType, name: str, location: str) -> Any:
    value: Any = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            names: Mapping[str, Any] = getattr(cast(object, value), "__dict__", {})
            public = [n for n, v in names.items() if not n.startswith("_") and callable(v)]
            own = [n for n in public if getattr(names[n], "__module__", "") == module.__name__]
            raise TargetError(
                f"{location!r} has no {name!r}.",
                why=f"Its callables are: {', '.join(sorted(own or public)) or 'none'}.",
                cure=_nearest(name, own or public) or "Use one of these names.",
            ) from error
    return value


# From a Python value to a program with its arguments.


def _with_inputs(value: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Target:
    if isinstance(value, Target) or type(value) is tuple:
        _no_inputs_wanted(name)
    signature = _signature(value)
    if signature is None or (_binds(signature, args, kwargs) and not inspect.isclass(value)):
        return Target(value, tuple(args), kwargs)
    if _binds(signature, (), {}):
        result = _called(value, name)
        if isinstance(result, Target) or type(result) is tuple:
            _no_inputs_wanted(name)
        if callable(result):
            return Target(result, tuple(args), kwargs)
    elif inspect.isclass(value):
        raise _needs_arguments(value, name, signature)
    count = len(args) + len(kwargs)
    raise InputError(
        f"`{name}{_names(signature)}` does not take {count} input{'s' if count != 1 else ''}.",
        where=_definition_line(value),
        why="Each --input is one argument; --input 'name=f32[8]' is a keyword argument.",
        cure=f"Pass one --input for each argument without a default. {_PYTREE}",
    )


def _called(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise TargetError(
            f"`{name}` is {_brief(factory)}, which costax cannot analyse.",
            why="A target is a callable, a module, or a factory that returns one of them.",
            cure=_FACTORY,
        )
    signature = _signature(factory)
    if signature is None or not _binds(signature, (), {}):
        if signature is not None and inspect.isclass(factory):
            raise _needs_arguments(factory, name, signature)
        raise InputError(
            f"`{name}{_names(signature) if signature else '(...)'}` takes arguments, but there is no --input.",
            where=_definition_line(factory),
            why="costax needs the shape and dtype of each argument.",
            cure=f"Pass one --input 'f32[8,128]' for each argument, or use a factory without arguments. {_FACTORY}",
        )
    check_computes(factory, name)
    try:
        return _made(factory)
    except (CostaxError, KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:
        constructor = _constructor(factory) if isinstance(error, TypeError) else None
        if constructor is not None and not _binds(constructor, (), {}):
            raise _needs_arguments(factory, name, constructor) from error
        raise TargetError(
            f"`{name}()` raised {_error_text(error)}.",
            where=_user_line(error) or _definition_line(factory),
            why="costax calls a factory to get the program and its arguments.",
            cure="Correct the error in the factory; --debug shows the traceback.",
        ) from error


def _constructor(value: Any) -> inspect.Signature | None:
    """Return the signature of the constructor of a class, which the metaclass of nnx hides; None of other values."""
    signature = _signature(value.__init__) if inspect.isclass(value) else None
    return signature and signature.replace(parameters=list(signature.parameters.values())[1:])


def _needs_arguments(value: Any, name: str, signature: inspect.Signature) -> InputError:
    """Return the error for a class that cannot be called without arguments."""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p for p in signature.parameters.values() if p.default is p.empty and p.kind not in optional]
    return InputError(
        f"`{name}` is a class whose constructor needs {', '.join(f'`{p.name}`' for p in needed)}.",
        where=_definition_line(value),
        why="--input describes the arguments of a call of the object, and not those that make it.",
        cure=f'Write a factory: def program(): return costax.Target({name}(...), ("f32[8,128]",)), and name it as the '
        "target.",
    )


def _made(factory: Callable[[], Any]) -> Any:
    """Call a factory. A model of torch gets no memory for its weights, unless it computes with them when it is made."""
    with frameworks.without_values() as abstract:
        if abstract is None:
            return factory()
        try:
            return factory()
        except (RuntimeError, TypeError):  # the factory reads a value, as in `x.item()` or `x.numpy()`
            pass
    return factory()


def _as_target(value: Any, name: str, where: str = "") -> Target:
    if isinstance(value, Target):
        return value
    parts = cast(tuple[Any, ...], value if type(value) is tuple else ())
    reason = ""
    if len(parts) not in (2, 3):
        reason = f"returned {f'a tuple of {len(parts)} values' if parts else _brief(value)}"
    elif not isinstance(parts[1], tuple | list):
        reason = f"returned {_brief(parts[1])} as the arguments instead of a tuple"
    elif len(parts) == 3 and not isinstance(parts[2], Mapping):
        reason = f"returned {_brief(parts[2])} as the keyword arguments instead of a dict"
    if reason:
        cure = f"{_FACTORY} If `{name}` itself is the program, pass its arguments with --input 'f32[8,128]'."
        raise TargetError(
            f"`{name}` {reason}.", where=where, why="costax needs a program and its arguments.", cure=cure
        )
    fn, args, kwargs = cast(tuple[Any, Sequence[Any], Mapping[str, Any]], parts if len(parts) == 3 else (*parts, {}))
    return Target(fn, tuple(args), kwargs)


def _no_inputs_wanted(name: str) -> NoReturn:
    raise InputError(
        f"`{name}` already has arguments, so --input is not allowed.",
        why="The factory determines the shapes of the arguments.",
        cure="Remove --input, or use the function itself as the target.",
    )


# Parts of messages.


def _search_first(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _signature(value: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):
        return None


def _names(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature without its annotations, which can be very long."""
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def _binds(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _definition_line(value: Any) -> str:
    if inspect.isclass(value):
        try:
            return f"{inspect.getsourcefile(value)}:{inspect.getsourcelines(value)[1]}"
        except (OSError, TypeError):  # a class without a file
            return ""
    code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _user_line(error: BaseException) -> str:
    """Return the innermost `file:line` of the traceback outside of installed packages and the standard library."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if is_user_file(f.filename) and not is_installed(f.filename)]
    own = [f for f in own if Path(f.filename).is_file()]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _error_text(error: BaseException) -> str:
    text = message_of(error)
    return f"{type(error).__name__}: {text}".removesuffix(".") if text else type(error).__name__


def _brief(value: Any) -> str:
    text = " ".join(representation(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} of type {type(value).__name__}"


def _python_files(path: Path) -> Iterable[str]:
    directory = path if path.is_dir() else path.parent
    return [file.name for file in directory.glob("*.py")] if directory.is_dir() else []


def _nearest(name: str, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(matches)}?" if matches else ""
