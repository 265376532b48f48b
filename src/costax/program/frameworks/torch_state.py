"""The tensors of torch modules as the inputs of a function, without a copy of their values.

During a trace, each tensor that a module stores is replaced by a tensor with the same shape that stands for an input.
Afterwards the module has its own attributes again, also after an exception, and without what its `forward` stored.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import jax

from costax.errors import TargetError
from costax.program.frameworks import torchax

# Where a module stores tensors: a mapping of its own (parameters, buffers, attributes) and a key.
_Slots = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class ModuleState:
    """The tensors of some modules by name. A tensor that several modules share has one name, that of its first use.

    parameters: those of `named_parameters`. buffers: all other tensors that the modules store, buffers and attributes.
    """

    modules: tuple[Any, ...]
    parameters: Mapping[str, Any]
    buffers: Mapping[str, Any]

    def shapes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the shapes and dtypes of the parameters and of the buffers."""
        return {n: shape_of(t) for n, t in self.parameters.items()}, {n: shape_of(t) for n, t in self.buffers.items()}

    @contextmanager
    def replaced(self, parameters: Mapping[str, Any], buffers: Mapping[str, Any]) -> Generator[None]:
        """Return a context in which the modules store other tensors, given by the same names."""
        substitutes = {id(tensor): parameters[name] for name, tensor in self.parameters.items()}
        substitutes |= {id(tensor): buffers[name] for name, tensor in self.buffers.items()}
        mappings = [(slots, dict(slots)) for _, slots in _all_slots(self.modules)]
        for slots, before in mappings:
            for name, value in before.items():
                if name not in _own_attributes():
                    slots[name] = _mapped(value, substitutes)
        try:
            yield
        finally:
            for slots, before in mappings:
                slots.clear()
                slots.update(before)


def state_of(modules: Sequence[Any]) -> ModuleState:
    """Return the tensors of modules. Raises TargetError for a module whose shapes are not known yet."""
    parameters: dict[str, Any] = {}
    seen: set[int] = set()
    for number, module in enumerate(modules):
        for name, tensor in module.named_parameters():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                parameters[_unique(name, number, parameters)] = tensor
    buffers: dict[str, Any] = {}
    for number, module in enumerate(modules):
        for path, slots in _all_slots([module]):
            for name, value in slots.items():
                for key, tensor in () if name in _own_attributes() else _tensors(value, f"{path}{name}"):
                    if id(tensor) not in seen:
                        seen.add(id(tensor))
                        buffers[_unique(key, number, buffers)] = tensor
    lazy = [name for name, tensor in (*parameters.items(), *buffers.items()) if _is_lazy(tensor)]
    if lazy:
        raise TargetError(
            f"The shape of `{lazy[0]}` is not known yet: the module is lazy.",
            why="A lazy module of torch learns its shapes in its first call.",
            cure="Call the module once before the analysis; with torch.device('meta') no memory is needed.",
        )
    return ModuleState(tuple(modules), parameters, buffers)


def shape_of(tensor: Any) -> Any:
    """Return the shape and the dtype of a tensor of torch."""
    return jax.ShapeDtypeStruct(tuple(tensor.shape), torchax.dtype_of(tensor))


def _unique(name: str, number: int, others: Mapping[str, Any]) -> str:
    return f"{number}.{name}" if name in others else name


def _all_slots(modules: Sequence[Any]) -> _Slots:
    """Yield (path, mapping) of all places where the modules and their submodules store tensors."""
    seen: set[int] = set()
    for module in modules:
        for path, inner in module.named_modules():
            if id(inner) not in seen:
                seen.add(id(inner))
                attributes = cast("dict[str, Any]", vars(inner))
                prefix = f"{path}." if path else ""
                yield from ((prefix, attributes[name]) for name in ("_parameters", "_buffers"))
                yield prefix, attributes


@cache
def _own_attributes() -> frozenset[str]:
    """Return the attributes that every module has; those with tensors are read one by one."""
    return frozenset(cast("dict[str, Any]", vars(sys.modules["torch"].nn.Module())))


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, tensor) of an attribute: a tensor, or a list, tuple or dict with tensors."""
    if isinstance(value, sys.modules["torch"].Tensor):
        yield name, value
    elif type(value) is dict:
        for key, inner in cast("dict[Any, Any]", value).items():
            yield from _tensors(inner, f"{name}.{key}")
    elif type(value) in (list, tuple):
        for position, inner in enumerate(cast("Sequence[Any]", value)):
            yield from _tensors(inner, f"{name}.{position}")


def _mapped(value: Any, substitutes: Mapping[int, Any]) -> Any:
    """Return an attribute with substitutes for its tensors."""
    if isinstance(value, sys.modules["torch"].Tensor):
        return substitutes.get(id(value), value)
    if type(value) is dict:
        entries = cast("dict[Any, Any]", value)
        return {key: _mapped(inner, substitutes) for key, inner in entries.items()}
    if type(value) in (list, tuple):
        inner = [_mapped(part, substitutes) for part in cast("Sequence[Any]", value)]
        return tuple(inner) if type(value) is tuple else inner
    return value


def _is_lazy(tensor: Any) -> bool:
    return sys.modules["torch"].nn.parameter.is_lazy(tensor)
