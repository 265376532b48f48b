"""HLO as plain records: modules, computations, instructions.

References are resolved: an instruction has its operands, its users and the computations that it calls. Fields that only
a few opcodes have are decoded on access.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from costax.core import dtypes
from costax.hlo import replica_groups
from costax.hlo.devices import Devices
from costax.hlo.errors import malformed
from costax.hlo.proto import decode
from costax.hlo.shapes import Shape

# At most 18 digits, which fit int64: a hostile file could hold a number of a million digits.
_TRIP_COUNT: Final = re.compile(rb'"known_trip_count"\s*:\s*\{\s*"n"\s*:\s*"?(\d{1,18})"?\s*[,}]')

_ESTIMATE: Final = re.compile(rb'"cost_estimate"\s*:\s*\{([^{}]*)\}')
_NUMBER: Final = re.compile(rb'"(\w+)"\s*:\s*"?(-?\d{1,18})"?\s*(?:,|$)')
MAX_RANK: Final = 64
"""Arrays of real modules have a handful of dimensions, and a window has as many as its array."""


class WindowDimension(NamedTuple):
    """How a window moves along one dimension."""

    size: int
    stride: int
    padding_low: int
    padding_high: int
    window_dilation: int
    base_dilation: int


class DotDimensions(NamedTuple):
    """Which dimensions of a dot are contracted, and which are batch."""

    lhs_contracting: tuple[int, ...]
    rhs_contracting: tuple[int, ...]
    lhs_batch: tuple[int, ...]
    rhs_batch: tuple[int, ...]


class RaggedDimensions(NamedTuple):
    """Dimensions of a ragged dot: those of the dot, the ragged one of lhs, the groups of rhs."""

    dot: DotDimensions
    lhs_ragged: tuple[int, ...]
    rhs_group: tuple[int, ...]


class ConvolutionDimensions(NamedTuple):
    """Which dimension of a convolution's input, kernel and output is which."""

    input_batch: int
    input_feature: int
    input_spatial: tuple[int, ...]
    kernel_input_feature: int
    kernel_output_feature: int
    kernel_spatial: tuple[int, ...]
    output_batch: int
    output_feature: int
    output_spatial: tuple[int, ...]


class SliceDimension(NamedTuple):
    """One dimension of a static slice."""

    start: int
    limit: int
    stride: int


class Metadata(NamedTuple):
    """The origin of an instruction: jax writes this metadata, and XLA keeps it through optimisation."""

    op_type: str
    op_name: str
    source_file: str
    source_line: int
    stack_frame_id: int


class SourceFrame(NamedTuple):
    """A frame of the Python stack under which jax traced an instruction."""

    file: str
    function: str
    line: int


def text(raw: bytes) -> str:
    """Decode a name; bytes that are not UTF-8 become replacement characters."""
    return raw.decode("utf-8", "replace")


def wrapped(value: int, values: range) -> int:
    """Return the value of a dtype that is equal to an integer modulo the number of values.

    >>> wrapped(255, range(-128, 128)), wrapped(-1, range(256)), wrapped(7, range(256))
    (-1, 255, 7)
    """
    # `len` of a range ends at 2^63.
    return (value - values.start) % (values.stop - values.start) + values.start


@dataclass(slots=True, eq=False, repr=False)
class Instruction:
    """One instruction. `users` holds each user in the same computation once, in the order of first use."""

    id: int
    name: str
    opcode: str
    shape: Shape
    operands: tuple[Instruction, ...]
    control_predecessors: tuple[Instruction, ...]
    called: tuple[Computation, ...]
    index: int = 0
    has_control_successors: bool = False
    users: list[Instruction] = field(default_factory=list["Instruction"])
    raw: Any = None
    raw_metadata: bytes = b""

    def __repr__(self) -> str:
        """Return `name = shape opcode(operands)`."""
        return f"{self.name} = {self.shape} {self.opcode}({', '.join(x.name for x in self.operands)})"

    def operand(self, i: int) -> Instruction:
        """Return operand `i`. Raises HloError if the instruction has fewer operands."""
        if i >= len(self.operands):
            raise malformed(f"`{self.opcode}` has {len(self.operands)} operands and needs {i + 1}", where=self.name)
        return self.operands[i]

    def callee(self, i: int) -> Computation:
        """Return called computation `i`. Raises HloError if the instruction calls fewer computations."""
        if i >= len(self.called):
            raise malformed(f"`{self.opcode}` calls {len(self.called)} computations, needs {i + 1}", where=self.name)
        return self.called[i]

    @property
    def operand_ids(self) -> tuple[int, ...]:
        """The ids of the operands."""
        return tuple(x.id for x in self.operands)

    @property
    def metadata(self) -> Metadata:
        """Operation name and source; the fields are empty if the instruction has no metadata."""
        raw = decode("Metadata", self.raw_metadata, self.name)
        return Metadata(
            text(raw.op_type), text(raw.op_name), text(raw.source_file), raw.source_line, raw.stack_frame_id
        )

    @property
    def op_name(self) -> str:
        """`jit(fn)/name/stack/primitive`; relative to the call site inside a shared function before optimisation."""
        return text(decode("Metadata", self.raw_metadata, self.name).op_name)

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The dimensions of a broadcast, transpose, reduce, concatenate, sort ..."""
        return tuple(self.raw.dimensions)

    @property
    def window(self) -> tuple[WindowDimension, ...]:
        """The window of a convolution, reduce-window or select-and-scatter, one entry a dimension."""
        dimensions = decode("Window", self.raw.window, self.name).dimensions
        if len(dimensions) > MAX_RANK:
            raise malformed(f"A window has {len(dimensions)} dimensions, more than {MAX_RANK}", where=self.name)
        return tuple([_window_dimension(decode("WindowDimension", raw, self.name)) for raw in dimensions])

    @property
    def convolution_dimensions(self) -> ConvolutionDimensions:
        """The dimension numbers of a convolution."""
        d = decode("ConvolutionDimensionNumbers", self.raw.convolution_dimension_numbers, self.name)
        return ConvolutionDimensions(
            d.input_batch_dimension,
            d.input_feature_dimension,
            tuple(d.input_spatial_dimensions),
            d.kernel_input_feature_dimension,
            d.kernel_output_feature_dimension,
            tuple(d.kernel_spatial_dimensions),
            d.output_batch_dimension,
            d.output_feature_dimension,
            tuple(d.output_spatial_dimensions),
        )

    @property
    def dot_dimensions(self) -> DotDimensions:
        """The dimension numbers of a dot."""
        return _dot_dimensions(self.raw.dot_dimension_numbers, self.name)

    @property
    def precision_config(self) -> tuple[tuple[int, ...], int]:
        """The precision of each operand of a dot or a convolution, and the algorithm: numbers of XLA's enumerations."""
        raw = decode("PrecisionConfig", self.raw.precision_config, self.name)
        return tuple(raw.operand_precision), raw.algorithm

    @property
    def ragged_dimensions(self) -> RaggedDimensions:
        """The dimension numbers of a ragged dot."""
        raw = self.raw.ragged_dot_dimension_numbers
        return RaggedDimensions(
            _dot_dimensions(raw.dot_dimension_numbers, self.name),
            tuple(raw.lhs_ragged_dimensions),
            tuple(raw.rhs_group_dimensions),
        )

    @property
    def slices(self) -> tuple[SliceDimension, ...]:
        """The range of a static slice, one entry a dimension."""
        ranges = [decode("SliceDimension", raw, self.name) for raw in self.raw.slice_dimensions]
        return tuple([SliceDimension(d.start, d.limit, d.stride) for d in ranges])

    @property
    def fft_length(self) -> tuple[int, ...]:
        """The lengths of an fft."""
        return tuple(self.raw.fft_length)

    @property
    def fft_type(self) -> str:
        """Which transform: `FFT`, `IFFT`, `RFFT` or `IRFFT`."""
        kind: int = self.raw.fft_type
        return ("FFT", "IFFT", "RFFT", "IRFFT")[kind & 3]

    @property
    def tuple_index(self) -> int:
        """Which element a get-tuple-element takes."""
        return self.raw.tuple_index

    @property
    def parameter_number(self) -> int:
        """Which parameter of its computation this is."""
        return self.raw.parameter_number

    @property
    def fusion_kind(self) -> str:
        """`kLoop`, `kInput`, `kOutput` or `kCustom`."""
        return text(self.raw.fusion_kind)

    @property
    def custom_call_target(self) -> str:
        """The library function that a custom call names."""
        return text(self.raw.custom_call_target)

    @property
    def backend_config(self) -> bytes:
        """The configuration that the backend wrote, most often JSON."""
        return self.raw.backend_config

    @property
    def cost_estimate(self) -> tuple[int, int, int] | None:
        """FLOPs, transcendentals and bytes that the author of a kernel states (`pallas_call(cost_estimate=...)`)."""
        match = _ESTIMATE.search(self.raw.backend_config)
        if not match:
            return None
        fields: dict[bytes, int] = {name: int(value) for name, value in _NUMBER.findall(match[1])}
        return fields.get(b"flops", 0), fields.get(b"transcendentals", 0), fields.get(b"bytes_accessed", 0)

    @property
    def known_trip_count(self) -> int | None:
        """The trip count of a while loop, if the compiler could prove it."""
        match = _TRIP_COUNT.search(self.raw.backend_config)
        return int(match[1]) if match else None

    @property
    def integer(self) -> int | None:
        """The value of a constant that is one integer or boolean; None for any other constant or instruction."""
        values = dtypes.integers(self.shape.dtype)
        if self.opcode != "constant" or values is None or self.shape.elements != 1:
            return None
        literal = decode("Literal", self.raw.literal, self.name)
        listed = literal.preds or literal.s32s or literal.s64s or literal.u32s or literal.u64s
        packed: bytes = literal.s8s or literal.u8s or literal.s16s or literal.u16s
        if not listed and not packed:
            return None
        return wrapped(int(listed[0]) if listed else int.from_bytes(packed, "little"), values)

    @property
    def comparison_direction(self) -> str:
        """Which comparison: `EQ`, `NE`, `LT`, `LE`, `GT` or `GE`."""
        return text(self.raw.comparison_direction)

    @property
    def feature_group_count(self) -> int:
        """Groups of channels of a convolution."""
        return self.raw.feature_group_count

    @property
    def batch_group_count(self) -> int:
        """Groups of the batch of a convolution."""
        return self.raw.batch_group_count

    @property
    def channel_id(self) -> int:
        """The channel of a collective, 0 if it has none."""
        return self.raw.channel_id

    @property
    def replica_groups(self) -> tuple[tuple[int, ...], ...]:
        """The groups of devices that communicate with each other; () means one group of all devices."""
        older = self.raw.collective_device_list
        listed = self.raw.replica_groups or older.replica_groups
        if listed:
            return tuple([tuple(decode("ReplicaGroup", raw, self.name).replica_ids) for raw in listed])
        iota = decode("IotaReplicaGroups", self.raw.iota_groups or older.iota, self.name)
        by_mesh = decode("MeshGroups", self.raw.mesh_groups, self.name)
        return replica_groups.iota(iota, self.name) or replica_groups.of_mesh(by_mesh, self.name)

    @property
    def source_target_pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs (sender, receiver) of a collective-permute."""
        pairs = [decode("SourceTarget", raw, self.name) for raw in self.raw.source_target_pairs]
        return tuple([(pair.source, pair.target) for pair in pairs])


@dataclass(slots=True, eq=False, repr=False)
class Computation:
    """A computation; its instructions are in the order of their ids, which is XLA's order."""

    id: int
    name: str
    instructions: tuple[Instruction, ...]
    root: Instruction
    is_fusion: bool

    def __repr__(self) -> str:
        """Return the name and how many instructions it has."""
        return f"Computation({self.name}, {len(self.instructions)} instructions)"

    @property
    def parameters(self) -> tuple[Instruction, ...]:
        """The parameters by number."""
        parameters = [x for x in self.instructions if x.opcode == "parameter"]
        return tuple(sorted(parameters, key=lambda x: x.parameter_number))


_NOT_STATED: Final = Devices()


@dataclass(slots=True, eq=False, repr=False)
class Module:
    """A module: computations by id, each after those that it calls, and the stack frames of its instructions.

    raw_schedule, raw_aliases: the messages of the schedule, and of the results that lie in the buffers of arguments;
    b"" where the module has none. run_on: the devices that the module states.
    """

    name: str
    computations: Mapping[int, Computation]
    entry: Computation
    raw_frames: Any
    raw_schedule: bytes = b""
    raw_aliases: bytes = b""
    run_on: Devices = _NOT_STATED

    def __repr__(self) -> str:
        """Return the name and how many computations it has."""
        return f"Module({self.name}, {len(self.computations)} computations)"

    @property
    def is_scheduled(self) -> bool:
        """Say whether the module gives the order in which its instructions run, as an optimised one does."""
        return bool(self.raw_schedule)

    @property
    def schedule(self) -> dict[int, tuple[int, ...]]:
        """The ids of the instructions of each computation in the order in which they run, by computation id."""
        entries = [decode("ScheduleEntry", raw) for raw in decode("Schedule", self.raw_schedule).sequences]
        return {entry.computation_id: tuple(entry.sequence.instruction_ids) for entry in entries}

    @property
    def aliases(self) -> dict[tuple[int, ...], int]:
        """By the place of a result in the output: the number of the parameter whose buffer it takes (donation)."""
        entries = [decode("AliasEntry", raw) for raw in decode("InputOutputAlias", self.raw_aliases).entries]
        return {tuple(entry.output_shape_index): entry.parameter_number for entry in entries}

    @property
    def devices(self) -> int:
        """How many devices run the module together; 1 where it does not say."""
        return self.run_on.count or 1

    def frame(self, stack_frame_id: int) -> SourceFrame | None:
        """Return the innermost frame of a stack frame id; None for 0 and for ids that the module does not have."""
        return self._frame(stack_frame_id)[0]

    def stack(self, stack_frame_id: int, most: int = 200) -> list[SourceFrame]:
        """Return the frames of a stack frame id, innermost first, at most `most` of them."""
        frames: list[SourceFrame] = []
        seen: set[int] = set()
        while stack_frame_id not in seen and len(frames) < most:
            seen.add(stack_frame_id)
            frame, stack_frame_id = self._frame(stack_frame_id)
            if frame is None:
                break
            frames.append(frame)
        return frames

    def source(self, instruction: Instruction) -> tuple[str, int]:
        """Return (file, line) of an instruction, or ("", 0) if it has no metadata."""
        metadata = instruction.metadata
        frame = self.frame(metadata.stack_frame_id)
        return (frame.file, frame.line) if frame else (metadata.source_file, metadata.source_line)

    def _frame(self, frame_id: int) -> tuple[SourceFrame | None, int]:
        table = self.raw_frames
        # All ids start at 1; 0 means that there is no frame.
        if not 1 <= frame_id <= len(table.stack_frames):
            return None, 0
        entry = decode("StackFrame", table.stack_frames[frame_id - 1])
        if not 1 <= entry.file_location_id <= len(table.file_locations):
            return None, 0
        place = decode("FileLocation", table.file_locations[entry.file_location_id - 1])
        file, function = (
            text(names[i - 1]) if 1 <= i <= len(names) else ""
            for names, i in ((table.file_names, place.file_name_id), (table.function_names, place.function_name_id))
        )
        return SourceFrame(file, function, place.line), entry.parent_frame_id


def _window_dimension(d: Any) -> WindowDimension:
    return WindowDimension(d.size, d.stride, d.padding_low, d.padding_high, d.window_dilation, d.base_dilation)


def _dot_dimensions(raw: bytes, where: str) -> DotDimensions:
    d = decode("DotDimensionNumbers", raw, where)
    return DotDimensions(
        tuple(d.lhs_contracting_dimensions),
        tuple(d.rhs_contracting_dimensions),
        tuple(d.lhs_batch_dimensions),
        tuple(d.rhs_batch_dimensions),
    )
