"""One scope per layer, for libraries whose modules add no path to the name stack of jax.

During tracing, the methods of a library's modules are wrapped. A wrapped call searches its module by identity among the
attributes of the calling module and adds the attribute path to the name stack: `encoder/layers/0/linear`. A module
that is not an attribute of a calling module gets its class name.

Libraries rebuild modules inside transformations (`nnx.scan`, `eqx.filter_grad`), so the search by identity can fail.
The next searches are: in the `self` of the calling Python frames, because a rebuilt parent contains the rebuilt child;
then a module with the same arrays; then a module of the same class with the same shapes. If several modules match, the
scope is the common part of their paths and the class name.

All threads see the wrapped methods, which change nothing in threads without an open context. The first context wraps
the methods, and the last one restores the original class attributes, also after an exception.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import currentframe
from typing import Any, Final

import jax

from costax._jax import pytrees
from costax.program.frameworks.bound import class_of
from costax.program.frameworks.kinds import called


@dataclass(frozen=True)
class ModuleLibrary:
    """The description of a library of modules.

    base: the base class of its modules. methods: returns the names of the methods that a class itself defines and whose
    calls are calls of a layer. original: returns the function that a wrapped attribute calls. skipped: returns whether
    a class is a wrapper and not a layer. children: returns the (name, module) pairs inside a module; None for its
    attributes. rebuilt: transformations rebuild modules; where they do not, the identity of a module is enough, and the
    outermost module of a program needs no scope. context: what else must hold while scopes are added.
    """

    base: Any
    methods: Callable[[type], Sequence[str]]
    original: Callable[[type, Any], Any] = lambda cls, attribute: attribute
    skipped: Callable[[type], bool] = lambda cls: False
    children: Callable[[Any], Iterable[tuple[str, Any]]] | None = None
    rebuilt: bool = True
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


class _Calls(threading.local):
    """The active module calls of this thread, outermost first; None outside of a context.

    twins, roots: see `layer_scopes`. A root without a name so far has the name None.
    """

    stack: list[_Call] | None = None
    twins: frozenset[type] = frozenset()
    roots: list[_Root] = []  # noqa: RUF012 # replaced in each context, never changed


@dataclass(slots=True)
class _Root:
    """An outermost module of a program: its call, and its scope, None as long as it has no name."""

    call: _Call
    scope: str | None


@dataclass(slots=True)
class _Call:
    module: Any
    library: ModuleLibrary
    paths: dict[int, tuple[str, Any]] | None = field(default=None)

    def path_of(self, module: Any) -> str | None:
        """Return the attribute path of a module inside the called module; None if it is not inside."""
        if self.paths is None:
            # The value has the module itself too, because an id is unique only while its object lives. The order is
            # reversed, so that of several paths to one module the shortest stays.
            children = list(_inner_modules(self.module, self.library))
            self.paths = {id(inner): (path, inner) for path, inner in reversed(children)}
        entry = self.paths.get(id(module))
        return entry[0] if entry else None


_CALLS: Final = _Calls()
_LOCK: Final = threading.Lock()
_WRAPPED: Final[dict[tuple[type, str], Any]] = {}
_USERS: Final[dict[type, int]] = {}


@contextmanager
def layer_scopes(
    libraries: Sequence[ModuleLibrary],
    twins: Collection[type] = (),
    roots: Sequence[tuple[ModuleLibrary, Any]] = (),
) -> Generator[None]:
    """Return a context in which each call of a module adds its path to the name stack.

    twins: classes with several root modules in the program (an actor and a critic). Their scopes are the names of the
    variables of the caller, because the class name does not distinguish them. roots: the known outermost modules of
    libraries that do not rebuild modules. A single one needs no scope of its own.
    """
    outer, outer_twins, outer_roots = _CALLS.stack, _CALLS.twins, _CALLS.roots
    for library in libraries:
        _wrap(library)
    _CALLS.stack, _CALLS.twins = [], frozenset(twins)
    _CALLS.roots = [_Root(_Call(module, library), None if len(roots) > 1 else "") for library, module in roots]
    try:
        yield
    finally:
        _CALLS.stack, _CALLS.twins, _CALLS.roots = outer, outer_twins, outer_roots
        for library in libraries:
            _unwrap(library)


def _wrap(library: ModuleLibrary) -> None:
    with _LOCK:
        _USERS[library.base] = _USERS.get(library.base, 0) + 1
        for cls in (library.base, *_subclasses(library.base)):
            for name in () if library.skipped(cls) else library.methods(cls):
                if (cls, name) not in _WRAPPED:
                    own = _WRAPPED[cls, name] = cls.__dict__[name]
                    type.__setattr__(cls, name, _scoped(library, own, library.original(cls, own)))


def _unwrap(library: ModuleLibrary) -> None:
    with _LOCK:
        _USERS[library.base] -= 1
        if _USERS[library.base]:
            return
        for cls, name in [key for key in _WRAPPED if issubclass(key[0], library.base)]:
            type.__setattr__(cls, name, _WRAPPED.pop((cls, name)))


def _subclasses(base: type) -> Iterator[type]:
    """Yield all subclasses of a base, each once."""
    seen: set[type] = set()
    pending = list(type.__subclasses__(base))
    while pending:
        cls = pending.pop()
        if cls not in seen:
            seen.add(cls)
            yield cls
            pending.extend(type.__subclasses__(cls))


def _scoped(library: ModuleLibrary, own: Any, function: Any) -> Callable[..., Any]:
    """Return a method that names its scope. own: the method of the class; function: without the scope of the library.

    Threads that analyse nothing call the method of the class.
    """

    @wraps(function)
    def scoped_call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        stack = _CALLS.stack
        if stack is None:
            return own.__get__(self, type(self))(*args, **kwargs)
        # `super().__call__` and other methods of the same module belong to the active call.
        if stack and stack[-1].module is self:
            return function.__get__(self, type(self))(*args, **kwargs)
        scope = _scope_of(self, stack, library)
        stack.append(_Call(self, library))
        try:
            with jax.named_scope(scope) if scope else nullcontext():
                leaf = library.children is not None and not any(True for _ in library.children(self))
                return called(self, partial(function.__get__(self, type(self)), *args, **kwargs), leaf=leaf)
        finally:
            stack.pop()

    return scoped_call


def _scope_of(module: Any, stack: list[_Call], library: ModuleLibrary) -> str:
    """Return the scope of a call of a module, by the searches that the docstring of this file lists."""
    caller = stack[-1] if stack else None
    path = caller.path_of(module) if caller else None
    if path is not None:
        return path
    if not library.rebuilt:
        return _scope_from_root(module, stack, library)
    selves = list(_calling_selves(library))
    wrappers = [other for other in selves if library.skipped(class_of(other))]
    parents = [
        _Call(other, library) for other in selves if other is not module and not library.skipped(class_of(other))
    ]
    # Without an active call, the path starts at the class name of the parent, which has no scope yet.
    for parent in parents:
        path = parent.path_of(module)
        if path is not None:
            return path if caller else f"{type(parent.module).__name__}/{path}"
    for parent in ([caller] if caller else []) + parents:
        path = _of_same_arrays([module, *wrappers], parent.module, library) or _look_alike(
            module, parent.module, library
        )
        if path is not None:
            return path if caller else f"{type(parent.module).__name__}/{path}"
    # A module may be an attribute of a module further out and be passed down as an argument.
    for outer in reversed(stack[:-1]):
        path = outer.path_of(module)
        if path is not None:
            return path
    name = type(module).__name__
    return (_local_name(module, library) or name) if type(module) in _CALLS.twins else name


def _scope_from_root(module: Any, stack: list[_Call], library: ModuleLibrary) -> str:
    """Return the scope of a call of a module that is not inside the calling module, from the outermost modules.

    A method of the outermost module may run without a call of the module: `torchax.extract_jax` calls its `forward`.
    """
    outer = reversed(stack[:-1])
    calling = (_Call(other, library) for other in _calling_selves(library) if other is not module)
    for call in (*outer, *(() if stack else calling)):
        path = call.path_of(module)
        if path is not None:
            return path if stack else _below_root(_root(call), path)
    if stack:
        return type(module).__name__
    for root in _CALLS.roots:
        path = "" if root.call.module is module else root.call.path_of(module)
        if path is not None:
            return _below_root(root, path)
    return _below_root(_root(_Call(module, library)), "")


def _root(call: _Call) -> _Root:
    """Return the outermost module that has a module, which is a new one if no other has it."""
    for root in _CALLS.roots:
        if root.call.module is call.module or root.call.path_of(call.module) is not None:
            return root
    root = _Root(call, None if _CALLS.roots else "")
    _CALLS.roots = [*_CALLS.roots, root]
    return root


def _below_root(root: _Root, path: str) -> str:
    if root.scope is None:
        module = root.call.module
        root.scope = _local_name(module, root.call.library) or type(module).__name__
    return "/".join(filter(None, (root.scope, path)))


def _inner_modules(module: Any, library: ModuleLibrary) -> Iterator[tuple[str, Any]]:
    """Yield (path, module) of all modules inside a module, breadth first."""
    seen = {id(module)}
    level = [("", module)]
    while level:
        below: list[tuple[str, Any]] = []
        for prefix, value in level:
            for name, inner in _children(value, library):
                if id(inner) in seen or not isinstance(inner, (library.base, Mapping, list, tuple)):
                    continue
                seen.add(id(inner))
                path = f"{prefix}/{name}" if prefix else name
                below.append((path, inner))
                if isinstance(inner, library.base):
                    yield path, inner
        level = below


def _children(value: Any, library: ModuleLibrary) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the attributes of a module, or of the entries of a mapping or a sequence."""
    if isinstance(value, library.base) and library.children is not None:
        yield from library.children(value)
    elif isinstance(value, library.base):
        # nnx stores internal data under names that begin with `_pytree__`.
        attributes = pytrees.items(vars(value))
        yield from ((name, inner) for name, inner in attributes if not name.startswith("_pytree__"))
    elif isinstance(value, Mapping):
        yield from ((str(name), inner) for name, inner in pytrees.items(value))
    else:
        yield from ((str(position), inner) for position, inner in enumerate(value))


def _calling_selves(library: ModuleLibrary) -> Iterator[Any]:
    """Yield the `self` modules of the calling frames, innermost first, up to the next wrapped call."""
    for frame in _calling_frames():
        code = frame.f_code
        if code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            if isinstance(first, library.base):
                yield first


def _calling_frames() -> Iterator[Any]:
    """Yield the Python frames from the call of a module outward to the next wrapped call or to costax itself."""
    frame = currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    while frame is not None and not str(frame.f_globals.get("__name__")).startswith("costax."):
        yield frame
        frame = frame.f_back


def _of_same_arrays(sources: Sequence[Any], parent: Any, library: ModuleLibrary) -> str | None:
    """Return the path of the inner module of `parent` with the same arrays as a rebuilt module or one of its wrappers.

    sources: the rebuilt module, then the wrappers that call it, such as `eqx.filter_checkpoint(block)`.
    """
    cls = class_of(sources[0])
    for source in sources:
        leaves = set(map(id, pytrees.leaves(source)))
        for path, inner in _inner_modules(parent, library):
            arrays = [leaf for leaf in pytrees.leaves(inner) if hasattr(leaf, "shape")] if type(inner) is cls else []
            if arrays and leaves.issuperset(map(id, arrays)):
                return path
    return None


def _look_alike(module: Any, parent: Any, library: ModuleLibrary) -> str | None:
    """Return the path of the inner module of `parent` with the same class and shapes.

    If several match, return the common part of their paths and the class name.
    """
    same_class = [(path, inner) for path, inner in _inner_modules(parent, library) if type(inner) is type(module)]
    shapes = _shapes(module)
    paths = [path for path, inner in same_class if _shapes(inner) == shapes] or [path for path, _ in same_class]
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


def _local_name(module: Any, library: ModuleLibrary) -> str | None:
    """Return the name of the caller's variable with a module: `actor`, or `models/actor` for an entry of a dict."""
    libraries = ("jax", library.base.__module__.partition(".")[0])
    for frame in _calling_frames():
        if str(frame.f_globals.get("__name__")).partition(".")[0] in libraries:
            continue
        names = frame.f_code.co_names
        variables = {name: frame.f_globals[name] for name in names if name in frame.f_globals} | frame.f_locals
        for name, value in variables.items():
            if value is module:
                return name
            if isinstance(value, (Mapping, list, tuple)):
                path = next((path for path, inner in _inner_modules(value, library) if inner is module), None)
                if path is not None:
                    return f"{name}/{path}"
    return None
