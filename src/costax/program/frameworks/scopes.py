"""One scope a layer, for libraries whose modules put no path on the name stack.

While a program is traced, the calls of a library's modules are wrapped. A call looks for its module among the
attributes of the module that is being called around it, by identity, and puts the attribute path on the name stack:
`encoder/layers/0/linear`. A module that nobody holds takes its class name.

Libraries rebuild modules inside transformations (`nnx.scan`, `eqx.filter_grad`), so identity can fail. Then the
`self` of the calling frames is asked (a rebuilt parent holds the rebuilt child), then the module is compared with
those that the parent holds: by its leaves, by class and shapes. What stays ambiguous takes the part of the path that
the candidates share, and its class name.

Wrapping is seen by all threads, and does nothing in threads that trace nothing here. The first context wraps, the
last one puts the very same class attributes back, whatever was raised in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from inspect import currentframe
from typing import Any, Final

import jax

from costax._jax import pytrees
from costax.program.frameworks.bound import class_of
from costax.program.frameworks.kinds import note


@dataclass(frozen=True)
class Library:
    """What the scopes need to know of a library.

    base: the class of its modules. methods: the names that a class defines itself and whose calls are a layer's.
    original: what to call in place of a class attribute. skipped: classes that are wrappers and no layers.
    """

    base: Any
    methods: Callable[[type], Sequence[str]]
    original: Callable[[type, Any], Any] = lambda cls, attribute: attribute
    skipped: Callable[[type], bool] = lambda cls: False


class _Calls(threading.local):
    """The calls that are under way in this thread, outermost first; None outside a trace."""

    stack: list[_Call] | None = None
    twins: frozenset[type] = frozenset()


@dataclass(slots=True)
class _Call:
    module: Any
    library: Library
    paths: dict[int, tuple[str, Any]] | None = field(default=None)

    def path_of(self, module: Any) -> str | None:
        """Return the attribute path of a module that the called one holds."""
        if self.paths is None:
            # The modules are kept with their paths: an id is good only while its object lives.
            held = list(_held(self.module, self.library))
            self.paths = {id(inner): (path, inner) for path, inner in reversed(held)}
        found = self.paths.get(id(module))
        return found[0] if found else None


_CALLS: Final = _Calls()
_LOCK: Final = threading.Lock()
_WRAPPED: Final[dict[tuple[type, str], Any]] = {}
_USERS: Final[dict[type, int]] = {}


@contextmanager
def layer_scopes(libraries: Sequence[Library], twins: Collection[type] = ()) -> Generator[None]:
    """Return a context in which each call of a module puts its path on the name stack.

    twins: classes of which the program has several roots; they are told apart by the caller's names for them.
    """
    outer, outer_twins = _CALLS.stack, _CALLS.twins
    for library in libraries:
        _wrap(library)
    _CALLS.stack, _CALLS.twins = [], frozenset(twins)
    try:
        yield
    finally:
        _CALLS.stack, _CALLS.twins = outer, outer_twins
        for library in libraries:
            _unwrap(library)


def _wrap(library: Library) -> None:
    with _LOCK:
        _USERS[library.base] = _USERS.get(library.base, 0) + 1
        for cls in _subclasses(library.base):
            for name in () if library.skipped(cls) else library.methods(cls):
                if (cls, name) not in _WRAPPED:
                    _WRAPPED[cls, name] = cls.__dict__[name]
                    type.__setattr__(cls, name, _scoped(library, library.original(cls, cls.__dict__[name])))


def _unwrap(library: Library) -> None:
    with _LOCK:
        _USERS[library.base] -= 1
        if _USERS[library.base]:
            return
        for cls, name in [key for key in _WRAPPED if issubclass(key[0], library.base)]:
            type.__setattr__(cls, name, _WRAPPED.pop((cls, name)))


def _subclasses(base: type) -> Iterator[type]:
    """Yield the classes below a base, each once."""
    seen: set[type] = set()
    waiting = list(type.__subclasses__(base))
    while waiting:
        cls = waiting.pop()
        if cls not in seen:
            seen.add(cls)
            yield cls
            waiting.extend(type.__subclasses__(cls))


def _scoped(library: Library, function: Any) -> Callable[..., Any]:
    @wraps(function)
    def scoped_call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        stack = _CALLS.stack
        # `super().__call__` and helper methods belong to the call that is under way.
        if stack is None or (stack and stack[-1].module is self):
            return function.__get__(self, type(self))(*args, **kwargs)
        scope = _place(self, stack, library)
        stack.append(_Call(self, library))
        try:
            with jax.named_scope(scope):
                note(self)
                return function.__get__(self, type(self))(*args, **kwargs)
        finally:
            stack.pop()

    return scoped_call


def _place(module: Any, stack: list[_Call], library: Library) -> str:
    around = stack[-1] if stack else None
    found = around.path_of(module) if around else None
    if found is not None:
        return found
    selves = list(_calling_selves(library))
    wrappers = [held for held in selves if library.skipped(class_of(held))]
    parents = [_Call(held, library) for held in selves if held is not module and not library.skipped(class_of(held))]
    for parent in parents:
        found = parent.path_of(module)
        if found is not None:
            return found if around else f"{type(parent.module).__name__}/{found}"
    for parent in ([around] if around else []) + parents:
        found = _of_same_arrays([module, *wrappers], parent.module, library) or _look_alike(
            module, parent.module, library
        )
        if found is not None:
            return found if around else f"{type(parent.module).__name__}/{found}"
    for outer in reversed(stack[:-1]):
        found = outer.path_of(module)
        if found is not None:
            return found
    name = type(module).__name__
    return (_local_name(module, library) or name) if type(module) in _CALLS.twins else name


def _held(module: Any, library: Library) -> Iterator[tuple[str, Any]]:
    """Yield (path, module) of the modules that a module holds in its attributes, nearest first."""
    seen = {id(module)}
    level = [("", module)]
    while level:
        below: list[tuple[str, Any]] = []
        for prefix, value in level:
            for name, inner in _parts(value, library):
                if id(inner) in seen or not isinstance(inner, (library.base, Mapping, list, tuple)):
                    continue
                seen.add(id(inner))
                path = f"{prefix}/{name}" if prefix else name
                below.append((path, inner))
                if isinstance(inner, library.base):
                    yield path, inner
        level = below


def _parts(value: Any, library: Library) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of what a module, a mapping or a sequence holds."""
    if isinstance(value, library.base):
        # nnx keeps its own books there.
        attributes = pytrees.items(vars(value))
        yield from ((name, inner) for name, inner in attributes if not name.startswith("_pytree__"))
    elif isinstance(value, Mapping):
        yield from ((str(name), inner) for name, inner in pytrees.items(value))
    else:
        yield from ((str(position), inner) for position, inner in enumerate(value))


def _calling_selves(library: Library) -> Iterator[Any]:
    """Yield the modules whose methods are calling, nearest first, as far as the wrapped call around them."""
    for frame in _calling_frames():
        code = frame.f_code
        if code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            if isinstance(first, library.base):
                yield first


def _calling_frames() -> Iterator[Any]:
    """Yield the frames between the module's call and the wrapped call around it, or the trace."""
    frame = currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    while frame is not None and not str(frame.f_globals.get("__name__")).startswith("costax."):
        yield frame
        frame = frame.f_back


def _of_same_arrays(sources: Sequence[Any], parent: Any, library: Library) -> str | None:
    """Return the path of the held module whose arrays a rebuilt one or a wrapper (`eqx.filter_checkpoint(block)`) has.

    sources: the rebuilt module, then the wrappers that are calling it.
    """
    kind = class_of(sources[0])
    for source in sources:
        leaves = set(map(id, pytrees.leaves(source)))
        for path, held in _held(parent, library):
            arrays = [leaf for leaf in pytrees.leaves(held) if hasattr(leaf, "shape")] if type(held) is kind else []
            if arrays and leaves.issuperset(map(id, arrays)):
                return path
    return None


def _look_alike(module: Any, parent: Any, library: Library) -> str | None:
    """Return the path of the module that looks like this one, or what the paths of several share."""
    alike = [(path, held) for path, held in _held(parent, library) if type(held) is type(module)]
    shapes = _shapes(module)
    paths = [path for path, held in alike if _shapes(held) == shapes] or [path for path, _ in alike]
    if len(paths) < 2:
        return paths[0] if paths else None
    shared = _shared_start([path.split("/") for path in paths])
    return "/".join([*shared, type(module).__name__])


def _shapes(module: Any) -> list[Any]:
    return [(getattr(leaf, "shape", None), str(getattr(leaf, "dtype", leaf))) for leaf in pytrees.leaves(module)]


def _shared_start(paths: Sequence[Sequence[str]]) -> list[str]:
    shared: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared


def _local_name(module: Any, library: Library) -> str | None:
    """Return the caller's name of a module: `actor`, or `models/actor`."""
    own = ("jax", library.base.__module__.partition(".")[0])
    for frame in _calling_frames():
        if str(frame.f_globals.get("__name__")).partition(".")[0] in own:
            continue
        for name, value in frame.f_locals.items():
            if value is module:
                return name
            if isinstance(value, (Mapping, list, tuple)):
                inner = next((path for path, held in _held(value, library) if held is module), None)
                if inner is not None:
                    return f"{name}/{inner}"
    return None
