"""The operations of a lowered program as plain values, and the HLO of each distinct operation alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, NamedTuple

from jax._src.interpreters import mlir as _mlir
from jax._src.lib.mlir.dialects import func as _func
from jaxlib.mlir import ir as _ir

# Untyped, because jax's annotations are incomplete.
_mlir_api: Any = _ir
_func_api: Any = _func
_jaxlib: Any = import_module("jaxlib._jax")

_CALLS: Final = {"func.call": "callee", "stablehlo.composite": "decomposition"}
_RETURNS: Final = frozenset({"func.return", "stablehlo.return", "sdy.return"})
# Operations whose regions run as computations of their own.
_CONTROL: Final = frozenset({"stablehlo.while", "stablehlo.case", "stablehlo.if"})
_MANUAL: Final = "sdy.manual_computation"

# jax 0.8 has one class for all locations, with predicates; later ones have a class for each kind.
_NAMED: Final[Any] = getattr(_ir, "NameLoc", ())
_LOCATION_KINDS: Final = tuple((kind, getattr(_ir, kind, ())) for kind in ("NameLoc", "CallSiteLoc", "FusedLoc"))
_PREDICATES: Final = {"NameLoc": "is_a_name", "CallSiteLoc": "is_a_callsite", "FusedLoc": "is_a_fused"}


class EmittedOperation(NamedTuple):
    """An operation of StableHLO that is not a return.

    name: `stablehlo.add`. op_name: the name that XLA gives to its instructions. kind: the index among the distinct
    operations; None for constants, calls and control flow, which cost nothing of their own. operands, results: numbers
    of values. regions: those that run as computations. callee: the function that a call runs, "" for other operations.
    """

    name: str
    op_name: str
    kind: int | None
    operands: tuple[int, ...]
    results: tuple[int, ...]
    regions: tuple[EmittedBlock, ...]
    callee: str


class EmittedBlock(NamedTuple):
    """The body of a function or region: numbers of its arguments, its operations, and numbers of what it returns."""

    arguments: tuple[int, ...]
    operations: tuple[EmittedOperation, ...]
    returned: tuple[int, ...]


@dataclass(slots=True)
class EmittedProgram:
    """The StableHLO of a lowered program.

    functions: bodies by name; the program starts at "main". value_types: for each value, the index of its type.
    types, samples: the distinct types, and one operation of each kind, as MLIR has them. module: MLIR's module.
    """

    module: Any
    functions: dict[str, EmittedBlock] = field(default_factory=dict[str, EmittedBlock])
    value_types: list[int] = field(default_factory=list[int])
    types: list[Any] = field(default_factory=list[Any])
    samples: list[Any] = field(default_factory=list[Any])

    def result_count(self, kind: int) -> int:
        """Return the number of results of an operation."""
        return len(self.samples[kind].results)

    def wraps_region(self, kind: int) -> bool:
        """Say whether the HLO of an operation alone calls the region that is a computation of the program, too."""
        return bool(self.samples[kind].name == _MANUAL)


def emitted_program(lowered: Any) -> EmittedProgram:
    """Return the operations of a `Lowered`, as jax emitted them."""
    module = lowered.compiler_ir("stablehlo")
    return _Reader(module).program()


class _Reader:
    """Reads a module in one pass; MLIR's types and attributes are unique, so that their identity is enough as a key."""

    def __init__(self, module: Any) -> None:
        self._program = EmittedProgram(module)
        self._values: dict[Any, int] = {}
        self._types: dict[Any, int] = {}
        self._kinds: dict[Any, int] = {}

    def program(self) -> EmittedProgram:
        for name, function in _functions(self._program.module).items():
            if len(function.regions[0].blocks):
                self._program.functions[name] = self._block(function.regions[0].blocks[0])
        return self._program

    def _block(self, block: Any) -> EmittedBlock:
        arguments = tuple([self._number(argument) for argument in block.arguments])
        operations: list[EmittedOperation] = []
        returned: tuple[int, ...] = ()
        for view in block.operations:
            op = view.operation
            name: str = op.name
            operands = tuple([self._values[value] for value in op.operands])
            if name in _RETURNS:
                returned = operands
            else:
                operations.append(self._operation(op, name, operands))
        return EmittedBlock(arguments, tuple(operations), returned)

    def _operation(self, op: Any, name: str, operands: tuple[int, ...]) -> EmittedOperation:
        results = tuple([self._number(value) for value in op.results])
        if name == "stablehlo.constant":
            return EmittedOperation(name, "", None, operands, results, (), "")
        op_name = _op_name(op.location)
        if name in _CALLS:
            callee: str = op.attributes[_CALLS[name]].value
            return EmittedOperation(name, op_name, None, operands, results, (), callee)
        if name in _CONTROL or name == _MANUAL:
            regions = tuple([self._block(region.blocks[0]) for region in op.regions])
            kind = self._kind(op, id(regions)) if name == _MANUAL else None
            return EmittedOperation(name, op_name, kind, operands, results, regions, "")
        types = self._program.value_types
        # To walk over no regions takes long.
        inside = tuple([_region_key(region) for region in op.regions]) if len(op.regions) else ()
        key = (
            name,
            tuple([types[number] for number in operands]),
            tuple([types[number] for number in results]),
            tuple(op.attributes.items()),
            inside,
        )
        return EmittedOperation(name, op_name, self._kind(op, key), operands, results, (), "")

    def _kind(self, op: Any, key: Any) -> int:
        kind = self._kinds.setdefault(key, len(self._kinds))
        if kind == len(self._program.samples):
            self._program.samples.append(op)
        return kind

    def _number(self, value: Any) -> int:
        """Return the number of a new value."""
        number = self._values[value] = len(self._program.value_types)
        kind = value.type
        index = self._types.get(kind)
        if index is None:
            index = self._types[kind] = len(self._types)
            self._program.types.append(kind)
        self._program.value_types.append(index)
        return number


def _functions(module: Any) -> dict[str, Any]:
    operations = [view.operation for view in module.body.operations]
    return {op.attributes["sym_name"].value: op for op in operations if op.name == "func.func"}


def _region_key(region: Any) -> tuple[Any, ...]:
    """Return a key that is equal for equal regions: types and attributes, and operands by where they come from."""
    local: dict[Any, int] = {}

    def place(value: Any) -> Any:
        if value in local:
            return local[value]
        constant = _constant(value)
        return value if constant is None else constant.attributes["value"]

    def block_key(block: Any) -> tuple[Any, ...]:
        for argument in block.arguments:
            local[argument] = len(local)
        return (tuple([argument.type for argument in block.arguments]), *map(operation_key, block.operations))

    def operation_key(view: Any) -> tuple[Any, ...]:
        op = view.operation
        operands = tuple([place(value) for value in op.operands])
        inside = tuple([block_key(block) for inner in op.regions for block in inner.blocks])
        for result in op.results:
            local[result] = len(local)
        return (
            op.name,
            operands,
            tuple([result.type for result in op.results]),
            tuple(op.attributes.items()),
            inside,
        )

    return tuple([block_key(block) for block in region.blocks])


def _constant(value: Any) -> Any:
    """Return the `stablehlo.constant` that a value is, else None."""
    owner = value.owner
    operation = None if isinstance(owner, _ir.Block) else owner.operation
    return operation if operation is not None and operation.name == "stablehlo.constant" else None


def _op_name(location: Any) -> str:
    """Return the `op_name` that XLA gives to the instructions of an operation: the names in its location.

    A name ends at the first "@"; one that ends with ":" is the type of the operation, and the name is below it.
    XLA: GetNameFromLocImpl (`location_exporter.cc`).
    """
    # The usual case.
    name: str = location.name_str if isinstance(location, _NAMED) else ":"
    if ":" not in name:
        return name.partition("@")[0]
    return ";".join(_location_names(location))


def _location_names(location: Any) -> Iterator[str]:
    kind = _location_kind(location)
    if kind == "NameLoc":
        name = location.name_str.partition("@")[0]
        if name.endswith(":"):
            yield from _location_names(location.child_loc)
        else:
            yield name
    elif kind == "CallSiteLoc":
        yield from _location_names(location.callee)
    elif kind == "FusedLoc":
        for part in location.locations:
            yield from _location_names(part)
    else:
        yield ""


def _location_kind(location: Any) -> str:
    for kind, location_class in _LOCATION_KINDS:
        predicate = getattr(location, _PREDICATES[kind], None)
        if isinstance(location, location_class) or (predicate is not None and predicate()):
            return kind
    return ""


def isolated_hlo(program: EmittedProgram, kinds: Sequence[int], *, keep_constants: bool = False) -> bytes:
    """Return the serialised HLO of a module with one copy of each of some operations, converted as jax does.

    Its first parameters have the types of the program, in order. Every copy has parameters of its own as operands, so
    that the conversion folds nothing into it or out of it. The root is a tuple of the results of all copies.
    keep_constants: constant operands stay constants, which some operations need. Raises an error of MLIR or XLA if
    some operation does not convert.
    """
    with program.module.context, _mlir_api.Location.unknown():
        copies = _Copies(program)
        for kind in kinds:
            copies.add(program.samples[kind], keep_constants)
        bytecode = _mlir.module_to_bytecode(copies.finished())
    converted = _jaxlib.mlir.mlir_module_to_xla_computation(bytecode, use_tuple_args=False, return_tuple=True)
    hlo: bytes = converted.as_serialized_hlo_module_proto()
    return hlo


class _Copies:
    """A module whose only function of its own holds copies of operations."""

    def __init__(self, program: EmittedProgram) -> None:
        source = program.module.operation
        self._module = _mlir_api.Module.create()
        self._sources = _functions(program.module)
        self._copied: set[str] = set()
        for name, attribute in source.attributes.items():
            self._module.operation.attributes[name] = attribute
        self._end = _mlir_api.InsertionPoint(self._module.body)
        for view in program.module.body.operations:
            # Meshes.
            if view.operation.name != "func.func":
                view.operation.clone(ip=self._end)
        with self._end:
            self._function = _func_api.FuncOp("main", ([], []))
        self._block = self._function.add_entry_block()
        self._results: list[Any] = []
        for kind in program.types:
            self._argument(kind)

    def add(self, sample: Any, keep_constants: bool) -> None:
        """Add a copy of an operation, with parameters in place of the values that it takes from outside."""
        copy = sample.clone(ip=_mlir_api.InsertionPoint(self._block)).operation
        for i, value in enumerate(copy.operands):
            constant = _constant(value) if keep_constants else None
            if constant is None:
                copy.operands[i] = self._argument(value.type)
            else:
                copy.operands[i] = constant.clone(ip=_mlir_api.InsertionPoint(copy)).operation.results[0]
        for region in copy.regions:
            self._close(region)
        self._copy_functions(copy)
        self._results += copy.results

    def finished(self) -> Any:
        """Return the module."""
        with _mlir_api.InsertionPoint(self._block):
            _func_api.ReturnOp(self._results)
        inputs, outputs = [x.type for x in self._block.arguments], [x.type for x in self._results]
        function_type = _mlir_api.FunctionType.get(inputs, outputs)
        self._function.attributes["function_type"] = _mlir_api.TypeAttr.get(function_type)
        return self._module

    def _argument(self, kind: Any) -> Any:
        return self._block.add_argument(kind, _mlir_api.Location.unknown())

    def _close(self, region: Any) -> None:
        """Replace what a region takes from outside: constants move into the region, other values become parameters."""
        inner: set[Any] = set()
        moved: dict[Any, Any] = {}

        def replacement(value: Any) -> Any:
            constant = _constant(value)
            if constant is None:
                return self._argument(value.type)
            return constant.clone(ip=_mlir_api.InsertionPoint.at_block_begin(region.blocks[0])).operation.results[0]

        for op in _within(region, inner):
            for i, value in enumerate(op.operands):
                if value not in inner:
                    if value not in moved:
                        moved[value] = replacement(value)
                        inner.add(moved[value])
                    op.operands[i] = moved[value]

    def _copy_functions(self, op: Any) -> None:
        """Copy the functions that an operation names, and those that these call."""
        for part in (op, *[inner for region in op.regions for inner in _within(region, set())]):
            for attribute in part.attributes.values():
                for name in _symbols(attribute):
                    if name in self._sources and name not in self._copied:
                        self._copied.add(name)
                        self._copy_functions(self._sources[name].clone(ip=self._end).operation)


def _within(region: Any, values: set[Any]) -> Iterator[Any]:
    """Yield the operations in a region, those of inner regions included; add the values of the region to `values`."""
    for block in region.blocks:
        values.update(block.arguments)
        for view in list(block.operations):
            op = view.operation
            yield op
            values.update(op.results)
            for inner in op.regions:
                yield from _within(inner, values)


def _symbols(attribute: Any) -> Sequence[str]:
    if isinstance(attribute, _ir.FlatSymbolRefAttr):
        return [attribute.value]
    if isinstance(attribute, _ir.ArrayAttr):
        return [name for part in attribute for name in _symbols(part)]
    return []
