"""The StableHLO of a program as jax emitted it, counted by XLA's rules before the conversion to HLO folds anything.

XLA counts HLO, and the conversion of StableHLO to HLO drops dead code, merges equal operations and folds constants. So
each distinct operation of the program is converted alone, with parameters as its operands, and its cost is that of the
HLO instructions from which its results are computed. Control flow and calls are counted as XLA counts them in HLO.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from costax import _jax
from costax.core.progress import stage
from costax.hlo import float32
from costax.hlo.cost_model import CostModel, Work, cost_model_for
from costax.hlo.gc_pause import gc_paused
from costax.hlo.proto import MESSAGES
from costax.hlo.read import read_bytes
from costax.hlo.records import Computation, Instruction, Module
from costax.hlo.replay import (
    Call,
    ComputationCost,
    Float32,
    Properties,
    Replay,
    counted_calls,
    replay_module,
)
from costax.hlo.shapes import Shape

_NONE: Final = Properties()
_ONCE: Final = Properties(1, 1, 1)
_NOTHING: Final = MESSAGES["Instruction"]()
_NO_FRAMES: Final = MESSAGES["StackFrameIndex"]()
# Instructions that only name values.
_NAMING: Final = frozenset({"parameter", "constant", "get-tuple-element", "tuple"})
# Errors of MLIR, of the conversion, and of jax's attributes.
_CONVERSION_ERRORS: Final = (ValueError, RuntimeError, TypeError, _jax.XlaError)


@dataclass(slots=True)
class EmittedReplay(Replay):
    """The count of a program as jax emitted it.

    unconverted: the instructions whose operation XLA does not convert alone, with the error; they count as 0.
    """

    unconverted: Mapping[str, str] = field(default_factory=dict[str, str])


@stage("counting StableHLO")
def emitted(jax_lowered: Any, cost_model: CostModel | None = None) -> EmittedReplay:
    """Return what XLA's rules count for a `jax.stages.Lowered`, operation by operation, before conversion to HLO.

    The instructions have the names that jax gave to the operations, and HLO's opcode where an operation becomes one
    instruction. Bytes are those of operands and results; the tuples of HLO are not part of StableHLO.
    """
    model = cost_model or cost_model_for()
    with gc_paused():
        program = _jax.emitted_program(jax_lowered)
        isolated = _Isolated(program, model)
        isolated.count(range(len(program.samples)))
        return _Builder(program, isolated).replay(model)


class _OperationCost(NamedTuple):
    """The cost of one operation; opcode and message of its HLO instruction, if it is a single one; or an error."""

    cost: Properties
    opcode: str = ""
    raw: Any = _NOTHING
    error: str = ""


_FREE: Final = _OperationCost(_NONE)


class _Isolated:
    """The costs of the distinct operations of a program, each converted alone, and the shapes of its types."""

    def __init__(self, program: _jax.EmittedProgram, model: CostModel) -> None:
        self._program = program
        self._model = model
        self.costs: dict[int, _OperationCost] = {}
        self._shapes: Sequence[Shape] | None = None

    @property
    def shapes(self) -> Sequence[Shape]:
        """The shapes of the program's types, which are the first parameters of every converted module."""
        if self._shapes is None:
            self._replay(())
        return self._shapes or ()

    def count(self, kinds: Sequence[int]) -> None:
        """Count some operations together; if one does not convert, each half of them."""
        together = [kind for kind in kinds if self._program.result_count(kind)]
        # The root does not lead to an operation without results.
        for kind in set(kinds).difference(together):
            self._count_alone(kind)
        self._count_together(together)

    def _count_together(self, kinds: Sequence[int]) -> None:
        if len(kinds) == 1:
            self._count_alone(kinds[0])
        elif kinds:
            try:
                replay = self._replay(kinds)
            except _CONVERSION_ERRORS:
                middle = len(kinds) // 2
                self._count_together(kinds[:middle])
                self._count_together(kinds[middle:])
            else:
                self._read(kinds, replay)

    def _count_alone(self, kind: int) -> None:
        """Count one operation; if it does not convert, try again with its constant operands as constants."""
        for keep_constants in (False, True):
            try:
                replay = self._replay((kind,), keep_constants=keep_constants)
            except _CONVERSION_ERRORS as fault:
                self.costs[kind] = _OperationCost(_NONE, error=str(fault) or type(fault).__name__)
            else:
                return self._read((kind,), replay)
        return None

    def _replay(self, kinds: Sequence[int], *, keep_constants: bool = False) -> Replay:
        hlo = _jax.isolated_hlo(self._program, kinds, keep_constants=keep_constants)
        replay = replay_module(read_bytes(hlo), self._model)
        if self._shapes is None:
            parameters = replay.module.entry.parameters
            self._shapes = [parameter.shape for parameter in parameters[: len(self._program.types)]]
        return replay

    def _read(self, kinds: Sequence[int], replay: Replay) -> None:
        cost = replay.computation_costs[replay.module.entry.id]
        own = {id(ins): properties for ins, properties in cost.own}
        called: dict[int, Properties] = {}
        for call in cost.calls:
            so_far = called.get(id(call.instruction), _NONE)
            inner = replay.computation_costs[call.callee.id].exact
            called[id(call.instruction)] = so_far.plus(inner.scaled(call.times))
        entry = replay.module.entry
        results = iter(entry.root.operands)
        for kind in kinds:
            count = self._program.result_count(kind)
            roots = [next(results) for _ in range(count)] or [x for x in entry.instructions if x is not entry.root]
            # The callee of such an operation is a computation of the program.
            both = (own,) if self._program.wraps_region(kind) else (own, called)
            self.costs[kind] = _operation_cost(roots, both)


def _operation_cost(roots: Sequence[Instruction], costs: Sequence[Mapping[int, Properties]]) -> _OperationCost:
    """Return the cost of the instructions from which some results are computed."""
    total = _NONE
    instructions = list(_reached(roots))
    for ins in instructions:
        for by_id in costs:
            total = total.plus(by_id.get(id(ins), _NONE))
    computing = [ins for ins in instructions if ins.opcode not in _NAMING]
    if len(computing) != 1 or computing[0].opcode in ("call", "while", "conditional"):
        return _OperationCost(total)
    return _OperationCost(total, computing[0].opcode, computing[0].raw)


def _reached(roots: Sequence[Instruction]) -> Iterator[Instruction]:
    pending, seen = list(roots), set[int]()
    while pending:
        ins = pending.pop()
        if id(ins) not in seen:
            seen.add(id(ins))
            yield ins
            pending += ins.operands


class _Builder:
    """Builds the records of a program: a computation for each function, and for each region of control flow."""

    def __init__(self, program: _jax.EmittedProgram, isolated: _Isolated) -> None:
        self.program = program
        self.operation_costs = isolated.costs
        self.shapes = isolated.shapes
        self.computations: dict[int, Computation] = {}
        self.costs: dict[int, ComputationCost] = {}
        self.unconverted: dict[str, str] = {}
        # By computation, the values that it takes from outside.
        self.captured: dict[int, Sequence[int]] = {}
        self._functions: dict[str, Computation] = {}
        self._metadata: dict[str, bytes] = {"": b""}
        self._last_id = 0

    def replay(self, model: CostModel) -> EmittedReplay:
        """Return the count of the function `main`."""
        entry = self.function("main")
        module = Module("stablehlo", self.computations, entry, _NO_FRAMES)
        return EmittedReplay(module, model, self.costs, _times(entry, self.costs), self.unconverted)

    def function(self, name: str) -> Computation:
        """Return the computation of a function; it is built at the first call."""
        if name not in self._functions:
            self._functions[name] = self.computation(self.program.functions[name], name)
        return self._functions[name]

    def computation(self, block: _jax.EmittedBlock, name: str) -> Computation:
        """Build a computation after those that it calls."""
        body = _ComputationBuilder(self)
        for number in block.arguments:
            body.parameter(number)
        body.captured.clear()
        for operation in block.operations:
            body.add(operation)
        root = body.root(block.returned)
        key = self.next_id()
        self.captured[key] = body.captured
        computation = Computation(key, f"{name}.{key}", tuple(body.instructions), root, False)
        self.computations[key] = computation
        self.costs[key] = ComputationCost(body.exact, _rounded(body.exact), body.own, body.calls)
        return computation

    def next_id(self) -> int:
        """Return an id that is new in the module."""
        self._last_id += 1
        return self._last_id

    def shape(self, numbers: Sequence[int]) -> Shape:
        """Return the shape of one value, or the tuple of several."""
        types = self.program.value_types
        if len(numbers) == 1:
            return self.shapes[types[numbers[0]]]
        return Shape("tuple", (), 1, 0, parts=tuple([self.shapes[types[number]] for number in numbers]))

    def metadata(self, op_name: str) -> bytes:
        """Return the serialised metadata with a name."""
        raw = self._metadata.get(op_name)
        if raw is None:
            message = MESSAGES["Metadata"](op_name=op_name.encode())
            raw = self._metadata[op_name] = message.SerializeToString()
        return raw


class _ComputationBuilder:
    """Builds the instructions of one computation, and adds up their cost."""

    def __init__(self, builder: _Builder) -> None:
        self._builder = builder
        self._known: dict[int, Instruction] = {}
        self._parameters = 0
        self.captured: list[int] = []
        self.instructions: list[Instruction] = []
        self.exact = _NONE
        self.own: list[tuple[Instruction, Properties]] = []
        self.calls: list[Call] = []

    def add(self, operation: _jax.EmittedOperation) -> None:
        """Add an operation, and what it costs and calls."""
        builder = self._builder
        called, joined = self._called(operation)
        # In HLO what a region takes from outside is an operand.
        taken = [number for callee in called for number in builder.captured[callee.id]]
        numbers = (*operation.operands, *dict.fromkeys(taken)) if operation.regions else operation.operands
        operands = tuple([self._known.get(number) or self.parameter(number) for number in numbers])
        kind = operation.kind
        short = operation.name.rpartition(".")[2]
        counted = _FREE if kind is None else builder.operation_costs[kind]
        opcode = counted.opcode or (_opcode(operation.name) if called else short)
        ins = self._instruction(short, opcode, operation.results, operands, operation.op_name, counted.raw, called)
        self._name_results(ins, operation)
        if counted.error:
            builder.unconverted[ins.name] = counted.error
        if counted.cost != _NONE:
            self.own.append((ins, counted.cost))
            self.exact = self.exact.plus(counted.cost)
        if called:
            work = Work(runs=called, joined=joined)
            for callee, times in counted_calls(work, builder.costs):
                self.calls.append(Call(ins, callee, times))
                self.exact = self.exact.plus(builder.costs[callee.id].exact.scaled(times))

    def parameter(self, number: int) -> Instruction:
        """Add a parameter: an argument, or a value that a region takes from outside."""
        raw = MESSAGES["Instruction"](parameter_number=self._parameters)
        self._parameters += 1
        self.captured.append(number)
        ins = self._instruction("parameter", "parameter", (number,), (), "", raw)
        self._known[number] = ins
        return ins

    def root(self, returned: Sequence[int]) -> Instruction:
        """Return the instruction of what the computation returns; it costs nothing."""
        operands = tuple([self._known.get(number) or self.parameter(number) for number in returned])
        return operands[0] if len(operands) == 1 else self._instruction("tuple", "tuple", returned, operands, "")

    def _called(self, operation: _jax.EmittedOperation) -> tuple[tuple[Computation, ...], Any]:
        """Return the computations that an operation runs, and how XLA adds their costs up."""
        if operation.callee:
            return (self._builder.function(operation.callee),), "call"
        if not operation.regions:
            return (), ""
        name = operation.op_name.rpartition("/")[2] or operation.name
        regions = tuple([self._builder.computation(region, name) for region in operation.regions])
        if operation.name == "stablehlo.while":
            condition, body = regions
            return (body, condition), "call"
        return regions, "call" if operation.kind is not None else "branches"

    def _name_results(self, ins: Instruction, operation: _jax.EmittedOperation) -> None:
        if len(operation.results) == 1:
            self._known[operation.results[0]] = ins
            return
        for index, number in enumerate(operation.results):
            raw = MESSAGES["Instruction"](tuple_index=index)
            opcode = "get-tuple-element"
            self._known[number] = self._instruction(opcode, opcode, (number,), (ins,), operation.op_name, raw)

    def _instruction(
        self,
        name: str,
        opcode: str,
        results: Sequence[int],
        operands: tuple[Instruction, ...],
        op_name: str,
        raw: Any = _NOTHING,
        called: tuple[Computation, ...] = (),
    ) -> Instruction:
        builder, index = self._builder, len(self.instructions)
        key = builder.next_id()
        shape, metadata = builder.shape(results), builder.metadata(op_name)
        ins = Instruction(
            key, f"{name}.{key}", opcode, shape, operands, (), called, index, raw=raw, raw_metadata=metadata
        )
        for operand in operands:
            if not operand.users or operand.users[-1] is not ins:
                operand.users.append(ins)
        self.instructions.append(ins)
        return ins


def _opcode(name: str) -> str:
    """Return HLO's opcode of an operation that runs computations."""
    return {"stablehlo.while": "while", "stablehlo.case": "conditional", "stablehlo.if": "conditional"}.get(
        name, "call"
    )


def _rounded(exact: Properties) -> Float32:
    return Float32(*[float32.of(value) for value in exact])


def _times(entry: Computation, costs: dict[int, ComputationCost]) -> Mapping[int, Properties]:
    """Return how often each computation counts; `costs` has callees before callers."""
    times = {entry.id: _ONCE}
    for key in reversed(costs):
        if key in times:
            for call in costs[key].calls:
                so_far = times.get(call.callee.id, _NONE)
                times[call.callee.id] = so_far.plus(call.times.scaled(times[key]))
    return times
