"""torch: a module runs on JAX arrays through torchax. Its tensors are inputs, of which only the shapes are needed.

Parameters are those of `named_parameters`; buffers and other tensors of a module are inputs that are no parameters.
A module stays in the mode, training or evaluation, in which it is.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

import jax

from costax import _jax
from costax._jax import pytrees
from costax.errors import InputError, TargetError
from costax.program.frameworks import torchax
from costax.program.frameworks.bound import Bound, within
from costax.program.frameworks.scopes import ModuleLibrary
from costax.program.frameworks.torch_state import shape_of, state_of


def bind(
    fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], params_argnums: int | Sequence[int] | None
) -> Bound | None:
    """Bind a module, a method of a module, or a function of modules or tensors of torch; None for other targets."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    leaves, tree = pytrees.flatten((tuple(args), dict(kwargs)))
    if not (_owner(fn) or any(isinstance(leaf, (torch.nn.Module, torch.Tensor)) for leaf in leaves)):
        return _extracted(torch, fn, args, kwargs) if params_argnums is None else None
    torchax.prepare()
    _check_sizes(leaves)
    modules = modules_of(fn, args, kwargs)
    state = state_of(modules)
    _warn_of_doubles(torch, [*state.parameters.values(), *state.buffers.values(), *leaves])
    constants = {i: leaf for i, leaf in enumerate(leaves) if not (isinstance(leaf, torch.Tensor) or is_jax(leaf))}
    arrays = [None if i in constants else _shape(torch, leaf) for i, leaf in enumerate(leaves)]

    def function(parameters: Any, buffers: Any, arguments: Any) -> Any:
        leaves = tree.flatten_up_to(arguments)
        with torchax.entered() as env:
            args, kwargs = pytrees.unflatten(tree, [constants.get(i, env.j2t_iso(x)) for i, x in enumerate(leaves)])
            inner, own = env.j2t_iso((parameters, buffers))
            with state.replaced(inner, own):
                out = list(_found(torch, fn(*args, **kwargs), set()))
            # Statistics that the program has updated are results too.
            updated = [tensor for name, tensor in own.items() if tensor.jax() is not buffers[name]]
            return [env.t2j_iso(tensor) for tensor in (*out, *updated)]

    function.__name__ = str(getattr(fn, "__name__", "") or type(fn).__name__)
    inputs = (*state.shapes(), pytrees.unflatten(tree, arrays))
    chosen = () if params_argnums is None else (params_argnums,) if isinstance(params_argnums, int) else params_argnums
    positions = (n % len(args) for n in chosen if args)
    return Bound(function, inputs, {}, within("0/0", *(f"0/2/0/{n}" for n in positions)), eager=True, module=True)


def from_torch(module: Any) -> tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]:
    """Return `(apply, parameters, buffers)` of a module of torch, for a training step with `jax.grad`.

    `apply(parameters, buffers, *args, **kwargs)` is the module as a function of JAX arrays; a result such as
    `ModelOutput` keeps its class. parameters, buffers: the shape and dtype of each tensor of the module by name, as in
    `module.named_parameters()`. The module must stay alive and keep its layers; its values are neither read nor copied.

    Args:
        module: A `torch.nn.Module`.

    Raises TargetError for another object, or if torchax cannot be imported.

        apply, parameters, buffers = costax.from_torch(model)

        def loss(parameters, buffers, images):
            return apply(parameters, buffers, images).mean()

        costax.analyze(jax.grad(loss), params_argnums=0)(parameters, buffers, costax.spec("f32[8,3,224,224]"))
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(module, torch.nn.Module):
        raise TargetError(
            f"from_torch needs a module of torch, got {module!r} of type {type(module).__name__}.",
            why="The parameters of the function are those of the module.",
            cure="Pass an object of a class that derives from torch.nn.Module.",
        )
    torchax.prepare()
    state = state_of([module])

    def apply(parameters: Mapping[str, Any], buffers: Mapping[str, Any], /, *args: Any, **kwargs: Any) -> Any:
        _check_sizes(pytrees.leaves((args, kwargs)))
        with torchax.entered() as env:
            inner, own, args, kwargs = env.j2t_iso((dict(parameters), dict(buffers), args, kwargs))
            with state.replaced(inner, own):
                return env.t2j_iso(module(*args, **kwargs))

    apply.__name__ = type(module).__name__
    return apply, *state.shapes()


def library() -> ModuleLibrary | None:
    """Return the description of torch for the layer scopes; None unless torch and torchax are loaded."""
    torch = sys.modules.get("torch")
    if torch is None or sys.modules.get("torchax") is None:
        return None
    return ModuleLibrary(
        torch.nn.Module,
        lambda cls: ["__call__"] if "__call__" in vars(cls) else [],
        children=lambda module: module.named_children(),
        rebuilt=False,
        context=torchax.without_operation_scopes,
    )


def modules_of(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the outermost modules of torch that a target consists of, gets as arguments, or refers to."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    owner = _owner(fn)
    named = [owner] if owner else [value for _, value in _references(fn, set()) if isinstance(value, torch.nn.Module)]
    named += [leaf for leaf in pytrees.leaves((tuple(args), dict(kwargs))) if isinstance(leaf, torch.nn.Module)]
    modules = list({id(module): module for module in named}.values())
    inner = {id(child) for module in modules for child in module.modules() if child is not module}
    return [module for module in modules if id(module) not in inner]


def without_values() -> AbstractContextManager[Any]:
    """Return a context in which new modules of torch have no values, if torch is loaded."""
    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.device("meta")


def is_jax(leaf: Any) -> bool:
    """Return whether a leaf is an array of jax or numpy, or describes one."""
    return pytrees.is_array(leaf) and not type(leaf).__module__.startswith("torch")


def _owner(fn: Any) -> Any:
    """Return the module that a target is or whose method it is, or None."""
    torch = sys.modules["torch"]
    value = fn.__self__ if isinstance(fn, MethodType) else fn
    return value if isinstance(value, torch.nn.Module) else None


def _references(fn: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the variables that a function and the functions in its variables refer to."""
    if id(fn) in seen:
        return
    seen.add(id(fn))
    if isinstance(fn, partial):
        yield from ((str(position), value) for position, value in enumerate((*fn.args, *fn.keywords.values())))
        yield from _references(fn.func, seen)
    if not isinstance(fn, FunctionType):
        return
    code = fn.__code__
    values = {name: fn.__globals__[name] for name in code.co_names if name in fn.__globals__}
    for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # the variable has no value yet
            continue
    for name, value in values.items():
        yield name, value
        yield from _references(value, seen)


def _extracted(torch: Any, fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound | None:
    """Bind the function of `torchax.extract_jax`, whose first argument has parameters and buffers; else return None."""
    if getattr(fn, "__module__", "") != "torchax" or not args or not isinstance(args[0], Mapping):
        return None
    wrapped = next((value for _, value in _references(fn, set()) if isinstance(value, torch.nn.Module)), None)
    if wrapped is None:
        return None
    names = [name for name, _ in wrapped._model.named_parameters()]
    return Bound(fn, args, kwargs, within(*(f"0/0/{name}" for name in names)), eager=True, module=True)


def _shape(torch: Any, leaf: Any) -> Any:
    return shape_of(leaf) if isinstance(leaf, torch.Tensor) else leaf


def _found(torch: Any, value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the tensors in a result: in containers, and in attributes of objects such as outputs and caches."""
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, (str, bytes, int, float, complex, type, torch.nn.Module, Callable)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inner: list[Any] = list(cast("Mapping[Any, Any]", value).values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = list(cast("Sequence[Any]", value))
    elif is_dataclass(value):
        inner = [getattr(value, entry.name) for entry in fields(value)]
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    for part in inner:
        yield from _found(torch, part, seen)


def _check_sizes(leaves: Sequence[Any]) -> None:
    if any(_jax.is_symbolic(size) for leaf in leaves for size in getattr(leaf, "shape", ())):
        raise InputError(
            "The sizes of tensors of torch are integers.",
            why="torch cannot trace with symbols; costax.analyze finds formulas from concrete sizes.",
            cure="Use integers: costax.spec('f32[8,3,224,224]').",
        )


def _warn_of_doubles(torch: Any, leaves: Sequence[Any]) -> None:
    doubles = (torch.float64, torch.complex128)
    without_x64 = jax.dtypes.canonicalize_dtype("float64") == "float32"
    if without_x64 and any(isinstance(leaf, torch.Tensor) and leaf.dtype in doubles for leaf in leaves):
        what = "Floats of 64 bits count as 32 bits; set jax.config.update('jax_enable_x64', True) to count 64."
        warnings.warn(what, UserWarning, stacklevel=6)
