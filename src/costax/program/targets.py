"""Targets of the command line: `package.module:name` and `path/to/file.py:name`, with shapes from text.

The name is a callable or a module, or a factory without arguments that returns `(fn, args)`, `(fn, args, kwargs)` or
a `costax.Target`. Everything that may go wrong in a file of the user's is said with the user's file and line.
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

from costax._jax.spec import spec
from costax.core.progress import stage
from costax.errors import CostaxError, InputError, TargetError
from costax.program.trace import Target

_GRAMMAR: Final = "Write package.module:name or path/to/file.py:name, for example examples/resnet.py:resnet18."
# What a process has loaded for a sweep, by place and name: a file is imported once.
_LOADED: Final[dict[tuple[str, str], Any]] = {}
_FACTORY: Final = "Return (fn, args), (fn, args, kwargs) or costax.Target(fn, args, kwargs)."


def load_attribute(text: str) -> Any:
    """Return what a target names, as it is. Raises TargetError where there is no such thing."""
    place, name = _split(text)
    key = (place, name)
    if key not in _LOADED:
        is_file = place.endswith(".py") or "/" in place or "\\" in place
        _LOADED[key] = _attribute(_from_file(place) if is_file else _from_module(place), name, place)
    return _LOADED[key]


def _split(text: str) -> tuple[str, str]:
    place, colon, name = text.rpartition(":")
    if not (place and colon and name):
        raise TargetError(
            f"{text!r} names no target.",
            why="costax needs a file or module, a colon, and the name of something in it.",
            cure=_GRAMMAR,
        )
    return place, name


@stage("importing")
def load_target(text: str, inputs: Sequence[str] = ()) -> Target:
    """Return the program that a target names, with its arguments.

    inputs: specs such as `f32[8,128]`, or `mask=bool[8]` for a keyword, for a callable that is no factory.
    Raises TargetError where there is no such target, InputError where the inputs do not fit.
    """
    place, name = _split(text)
    args, kwargs = _specs(inputs)
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    value = _attribute(_from_file(place) if is_file else _from_module(place), name, place)
    if inputs:
        return _with_inputs(value, name, args, kwargs)
    if isinstance(value, Target) or type(value) is tuple:
        return _as_target(value, name)
    return _as_target(_called(value, name), name, _place_of(value))


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


# Finding and importing.


def _from_file(place: str) -> ModuleType:
    path = Path(place).absolute()
    if not path.is_file():
        raise TargetError(
            f"{place!r} is a directory." if path.is_dir() else f"There is no file {place!r}.",
            why="costax imports the file to find the target in it.",
            cure=_nearest(path.name, _python_files(path)) or _GRAMMAR,
        )
    # A file may import its neighbours, as a script does; one that is called like a module leaves that one alone.
    name = path.stem if path.stem.isidentifier() and importlib.util.find_spec(path.stem) is None else f"_{path.stem}"
    _search_first(str(path.parent))
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise TargetError(
            f"{place!r} is not a Python file.", why="costax imports it to find the target.", cure=_GRAMMAR
        )
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    loader = found.loader
    try:
        _imported(lambda: loader.exec_module(module), place)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_module(place: str) -> ModuleType:
    _search_first(str(Path.cwd()))
    try:
        return _imported(lambda: importlib.import_module(place), place)
    except TargetError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and f"{place}.".startswith(f"{cause.name}."):
            raise TargetError(
                f"There is no module {cause.name!r}.",
                why="costax imports it to find the target in it.",
                cure="Install it, go to the directory that holds it, or name the file: path/to/file.py:name.",
            ) from cause
        raise


def _imported(load: Callable[[], Any], place: str) -> Any:
    try:
        return load()
    except CostaxError:
        raise
    except SyntaxError as error:
        raise TargetError(
            f"{place!r} is not Python that can be read: {error.msg}.",
            where=f"{error.filename or place}:{error.lineno or 1}",
            why="costax imports the file to find the target in it.",
            cure="Mend the line, or name another file.",
        ) from error
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        raise TargetError(
            f"Importing {place!r} raised {_described(error)}.",
            where=_user_line(error),
            why="costax imports it to find the target in it.",
            cure=f"Install the package that brings `{absent.partition('.')[0]}`."
            if absent
            else "Make `python -c 'import ...'` of it work first; --debug shows the traceback.",
        ) from error


def _attribute(module: ModuleType, name: str, place: str) -> Any:
    value: Any = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            held: Mapping[str, Any] = getattr(cast(object, value), "__dict__", {})
            public = [n for n, v in held.items() if not n.startswith("_") and callable(v)]
            own = [n for n in public if getattr(held[n], "__module__", "") == module.__name__]
            raise TargetError(
                f"{place!r} has no {name!r}.",
                why=f"It offers: {', '.join(sorted(own or public)) or 'nothing that can be called'}.",
                cure=_nearest(name, own or public) or "Name one of these.",
            ) from error
    return value


# From what the name holds to a program and its arguments.


def _with_inputs(value: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Target:
    if isinstance(value, Target) or type(value) is tuple:
        _no_inputs_wanted(name)
    signature = _signature(value)
    if signature is None or (_binds(signature, args, kwargs) and not inspect.isclass(value)):
        return Target(value, tuple(args), kwargs)
    if _binds(signature, (), {}):
        made = _called(value, name)
        if isinstance(made, Target) or type(made) is tuple:
            _no_inputs_wanted(name)
        if callable(made):
            return Target(made, tuple(args), kwargs)
    given = len(args) + len(kwargs)
    raise InputError(
        f"`{name}{_names(signature)}` does not take {given} input{'s' if given != 1 else ''}.",
        where=_place_of(value),
        why="Each --input gives one argument; --input 'name=f32[8]' gives a keyword argument.",
        cure="Give one --input for each argument that has no default, or name a factory that returns (fn, args).",
    )


def _called(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise TargetError(
            f"`{name}` is {_brief(factory)}, not something to analyse.",
            why="A target is a callable, a module, or a factory of them.",
            cure=_FACTORY,
        )
    signature = _signature(factory)
    if signature is None or not _binds(signature, (), {}):
        raise InputError(
            f"`{name}{_names(signature) if signature else '(...)'}` takes arguments, and none were given.",
            where=_place_of(factory),
            why="costax needs the shape and dtype of each argument.",
            cure=f"Give one --input 'f32[8,128]' for each, or name a factory without arguments. {_FACTORY}",
        )
    try:
        return factory()
    except CostaxError:
        raise
    except (Exception, SystemExit) as error:
        raise TargetError(
            f"`{name}()` raised {_described(error)}.",
            where=_user_line(error) or _place_of(factory),
            why="costax calls a factory to get the program and its arguments.",
            cure="Make the call work first; --debug shows the traceback.",
        ) from error


def _as_target(value: Any, name: str, where: str = "") -> Target:
    if isinstance(value, Target):
        return value
    parts = cast(tuple[Any, ...], value if type(value) is tuple else ())
    reason = ""
    if len(parts) not in (2, 3):
        reason = f"returned {f'{len(parts)} things' if parts else _brief(value)}"
    elif not isinstance(parts[1], tuple | list):
        reason = f"returned as its arguments {_brief(parts[1])}, not a tuple"
    elif len(parts) == 3 and not isinstance(parts[2], Mapping):
        reason = f"returned as its keyword arguments {_brief(parts[2])}, not a dict"
    if reason:
        cure = f"{_FACTORY} If `{name}` is itself the program, give its arguments with --input 'f32[8,128]'."
        raise TargetError(f"`{name}` {reason}.", where=where, why="costax cannot tell the program from it.", cure=cure)
    fn, args, kwargs = cast(tuple[Any, Sequence[Any], Mapping[str, Any]], parts if len(parts) == 3 else (*parts, {}))
    return Target(fn, tuple(args), kwargs)


def _no_inputs_wanted(name: str) -> NoReturn:
    raise InputError(
        f"`{name}` brings its own arguments; --input has no place.",
        why="Its shapes are fixed by the factory.",
        cure="Leave --input out, or name the function itself.",
    )


# Words for messages.


def _search_first(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _signature(value: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):
        return None


def _names(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature without its annotations, which may fill a page."""
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def _binds(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _place_of(value: Any) -> str:
    code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _user_line(error: BaseException) -> str:
    """Return the deepest line of the traceback that is neither an installed package's nor Python's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_file() and not _is_installed(f.filename)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _is_installed(filename: str) -> bool:
    path = Path(filename).resolve()
    libraries = (Path(inspect.__file__).resolve().parent, Path(__file__).resolve().parent)
    return "site-packages" in path.parts or any(path.is_relative_to(library) for library in libraries)


def _described(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}".removesuffix(".") if text else type(error).__name__


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} of type {type(value).__name__}"


def _python_files(path: Path) -> Iterable[str]:
    directory = path if path.is_dir() else path.parent
    return [file.name for file in directory.glob("*.py")] if directory.is_dir() else []


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else ""
