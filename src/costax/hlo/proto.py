"""A small protobuf schema for the parts of `HloModuleProto` that a cost needs.

The field numbers are XLA's and never change (`xla/service/hlo.proto`, `xla/xla_data.proto`). The decoder skips fields
that the schema does not name. The values of constants are decoded only for integer scalars. Names have the type
`bytes`, because XLA does not guarantee UTF-8. Repeated messages have the type `bytes`, too: equal shapes are decoded
once, and a hostile file cannot expand two bytes into a large message a million times.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from costax.core.protobuf import message_classes
from costax.hlo.errors import malformed

# name: {field: (number, type)}; a type ending in * is repeated, a capitalised one is a message of this table.
_MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Wrapper": {"module": (1, "bytes"), "buffer_assignment": (3, "bytes")},
    "Module": {
        "name": (1, "bytes"),
        "entry_computation_name": (2, "bytes"),
        "computations": (3, "bytes*"),
        "entry_computation_id": (6, "int"),
        "schedule": (7, "bytes"),
        "input_output_alias": (8, "bytes"),
        "spmd_output_sharding": (12, "bytes"),
        "spmd_parameters_shardings": (14, "bytes*"),
        "device_assignment": (15, "bytes"),
        "stack_frame_index": (17, "StackFrameIndex"),
        "frontend_attributes": (19, "bytes"),
    },
    "Schedule": {"sequences": (1, "bytes*")},
    "ScheduleEntry": {"computation_id": (1, "int"), "sequence": (2, "Sequence")},
    "Sequence": {"instruction_ids": (1, "int*")},
    "InputOutputAlias": {"entries": (1, "bytes*")},
    "AliasEntry": {"output_shape_index": (1, "int*"), "parameter_number": (2, "int")},
    "DeviceAssignment": {
        "replica_count": (1, "int"),
        "computation_count": (2, "int"),
        "computation_devices": (3, "bytes*"),
    },
    "AssignedDevices": {"replica_device_ids": (1, "int*")},
    "Attributes": {"entries": (1, "bytes*")},
    "Attribute": {"key": (1, "bytes"), "value": (2, "bytes")},
    "Sharding": {"tile_extents": (3, "int*"), "tuple_shardings": (5, "bytes*"), "named": (14, "NamedSharding")},
    "NamedSharding": {"mesh": (2, "Mesh")},
    "Computation": {
        "name": (1, "bytes"),
        "instructions": (2, "bytes*"),
        "id": (5, "int"),
        "root_id": (6, "int"),
        "is_fusion_computation": (7, "bool"),
    },
    "Instruction": {
        "name": (1, "bytes"),
        "opcode": (2, "bytes"),
        "shape": (3, "bytes"),
        "metadata": (7, "bytes"),
        "literal": (8, "bytes"),
        "parameter_number": (9, "int"),
        "fusion_kind": (11, "bytes"),
        "tuple_index": (13, "int"),
        "dimensions": (14, "int*"),
        "window": (15, "bytes"),
        "convolution_dimension_numbers": (16, "bytes"),
        "slice_dimensions": (17, "bytes*"),
        "channel_id": (26, "int"),
        "custom_call_target": (28, "bytes"),
        "dot_dimension_numbers": (30, "bytes"),
        "fft_type": (31, "int"),
        "fft_length": (32, "int*"),
        "id": (35, "int"),
        "operand_ids": (36, "int*"),
        "control_predecessor_ids": (37, "int*"),
        "called_computation_ids": (38, "int*"),
        "sharding": (40, "bytes"),
        "backend_config": (43, "bytes"),
        "replica_groups": (49, "bytes*"),
        "feature_group_count": (50, "int"),
        "precision_config": (51, "bytes"),
        "source_target_pairs": (52, "bytes*"),
        "batch_group_count": (58, "int"),
        "comparison_direction": (63, "bytes"),
        "frontend_attributes": (68, "bytes"),
        "collective_device_list": (87, "CollectiveDeviceList"),
        "ragged_dot_dimension_numbers": (90, "RaggedDotDimensionNumbers"),
        "iota_groups": (92, "bytes"),
        "mesh_groups": (93, "bytes"),
    },
    "Shape": {
        "element_type": (2, "int"),
        "dimensions": (3, "int*"),
        "tuple_shapes": (4, "bytes*"),
        "layout": (5, "Layout"),
        "is_dynamic_dimension": (6, "bool*"),
    },
    "Layout": {
        "minor_to_major": (1, "int*"),
        "tiles": (6, "bytes*"),
        "element_size_in_bits": (7, "int"),
        "memory_space": (8, "int"),
        "tail_padding_alignment_in_elements": (16, "int"),
        "split_configs": (17, "bytes*"),
    },
    "Tile": {"dimensions": (1, "int*")},
    "SplitConfig": {"dimension": (1, "int"), "split_indices": (2, "int*")},
    "Metadata": {
        "op_type": (1, "bytes"),
        "op_name": (2, "bytes"),
        "source_file": (3, "bytes"),
        "source_line": (4, "int"),
        "stack_frame_id": (15, "int"),
    },
    # Only the values of integers; those of 8 and 16 bits are bytes, the least significant first.
    "Literal": {
        "preds": (2, "bool*"),
        "u8s": (3, "bytes"),
        "s32s": (4, "int*"),
        "s64s": (5, "int*"),
        "u32s": (6, "int*"),
        "u64s": (7, "int*"),
        "s8s": (15, "bytes"),
        "u16s": (16, "bytes"),
        "s16s": (17, "bytes"),
    },
    "SliceDimension": {"start": (1, "int"), "limit": (2, "int"), "stride": (3, "int")},
    "Window": {"dimensions": (1, "bytes*")},
    "WindowDimension": {
        "size": (1, "int"),
        "stride": (2, "int"),
        "padding_low": (3, "int"),
        "padding_high": (4, "int"),
        "window_dilation": (5, "int"),
        "base_dilation": (6, "int"),
    },
    "ConvolutionDimensionNumbers": {
        "kernel_input_feature_dimension": (3, "int"),
        "kernel_output_feature_dimension": (4, "int"),
        "kernel_spatial_dimensions": (6, "int*"),
        "input_batch_dimension": (7, "int"),
        "input_feature_dimension": (8, "int"),
        "output_batch_dimension": (9, "int"),
        "output_feature_dimension": (10, "int"),
        "input_spatial_dimensions": (11, "int*"),
        "output_spatial_dimensions": (12, "int*"),
    },
    "DotDimensionNumbers": {
        "lhs_contracting_dimensions": (1, "int*"),
        "rhs_contracting_dimensions": (2, "int*"),
        "lhs_batch_dimensions": (3, "int*"),
        "rhs_batch_dimensions": (4, "int*"),
    },
    "PrecisionConfig": {"operand_precision": (1, "int*"), "algorithm": (2, "int")},
    "RaggedDotDimensionNumbers": {
        "dot_dimension_numbers": (1, "bytes"),
        "lhs_ragged_dimensions": (2, "int*"),
        "rhs_group_dimensions": (3, "int*"),
    },
    "ReplicaGroup": {"replica_ids": (1, "int*")},
    "CollectiveDeviceList": {"replica_groups": (1, "bytes*"), "iota": (2, "bytes")},
    "MeshGroups": {"mesh": (1, "Mesh"), "axes": (2, "MeshAxisPart*")},
    "Mesh": {"axes": (1, "MeshAxis*"), "device_ids": (2, "int*"), "order": (3, "DeviceOrder")},
    "DeviceOrder": {"reshape": (1, "int*"), "transpose": (2, "int*")},
    "MeshAxis": {"name": (1, "bytes"), "size": (2, "int")},
    "MeshAxisPart": {"index": (1, "int"), "part": (2, "AxisPart")},
    "AxisPart": {"before": (1, "int"), "size": (2, "int")},
    "IotaReplicaGroups": {
        "groups": (1, "int"),
        "devices": (2, "int"),
        "reshape": (3, "int*"),
        "transpose": (4, "int*"),
    },
    "SourceTarget": {"source": (1, "int"), "target": (2, "int")},
    "StackFrameIndex": {
        "file_names": (1, "bytes*"),
        "function_names": (2, "bytes*"),
        "file_locations": (3, "bytes*"),
        "stack_frames": (4, "bytes*"),
    },
    # XLA's buffer assignment, which stands beside the module in an HloProto.
    "BufferAssignment": {"buffers": (1, "bytes*"), "allocations": (3, "bytes*"), "traces": (4, "bytes*")},
    "MemoryUsageReport": {"spaces": (1, "bytes*")},
    "MemorySpace": {"total": (1, "int")},
    "LogicalBuffer": {"id": (1, "int"), "size": (2, "int"), "defined_at": (3, "BufferLocation")},
    "BufferLocation": {"instruction_name": (2, "bytes"), "shape_index": (3, "int*"), "instruction_id": (4, "int")},
    "BufferAllocation": {
        "index": (1, "int"),
        "size": (2, "int"),
        "is_thread_local": (3, "bool"),
        "is_entry_computation_parameter": (5, "bool"),
        "parameter_number": (6, "int"),
        "maybe_live_out": (7, "bool"),
        "assigned": (9, "bytes*"),
        "parameter_shape_index": (10, "int*"),
        "is_constant": (12, "bool"),
        "is_aliased": (13, "bool"),
    },
    "AssignedBuffer": {"buffer_id": (1, "int"), "offset": (2, "int"), "size": (3, "int")},
    "HeapTrace": {"events": (1, "bytes*")},
    "HeapEvent": {
        "kind": (1, "int"),
        "buffer_id": (2, "int"),
        "computation_name": (3, "bytes"),
        "instruction_name": (4, "bytes"),
        "shared_with": (5, "int"),
    },
    "FileLocation": {"file_name_id": (1, "int"), "function_name_id": (2, "int"), "line": (3, "int")},
    "StackFrame": {"file_location_id": (1, "int"), "parent_frame_id": (2, "int")},
}

# Two more views of a computation, for versions of a module: XLA changes the ids of instructions from pass to pass, so
# what an instruction is and how it is numbered are decoded apart, both at C speed.
# Without ids: as a bool each id is 1, and all other fields are kept as they are. The number of operands is left.
_MESSAGES["InstructionContent"] = {
    "id": (35, "bool"),
    "operand_ids": (36, "bool*"),
    "control_predecessor_ids": (37, "bool*"),
    "called_computation_ids": (38, "bool*"),
}
_MESSAGES["ComputationContent"] = {"instructions": (2, "InstructionContent*")}
# Only ids: a message that the schema has once and the bytes have many times is merged, which joins lists. So one
# message holds the ids of all instructions of a computation, in order; but an id that is 0 is not written.
_MESSAGES["InstructionIds"] = {"id": (35, "int*"), "operand_ids": (36, "int*"), "called_computation_ids": (38, "int*")}
_MESSAGES["ComputationIds"] = {"instructions": (2, "InstructionIds")}
# All ids of a computation, to write others; the decoder keeps the fields that a message does not name.
_MESSAGES["InstructionNumbers"] = {
    "id": (35, "int"),
    "operand_ids": (36, "int*"),
    "control_predecessor_ids": (37, "int*"),
}
_MESSAGES["ComputationNumbers"] = {"instructions": (2, "InstructionNumbers*"), "id": (5, "int"), "root_id": (6, "int")}


MESSAGES: Final[dict[str, Any]] = message_classes("costax.hlo.proto", _MESSAGES)
"""Message class by name."""


def decode(message: str, raw: bytes, where: str = "") -> Any:
    """Return the message that bytes encode. Raises HloError if they do not encode one."""
    try:
        return MESSAGES[message].FromString(raw)
    except DecodeError as fault:
        raise malformed(f"The {message.lower()} does not decode: {fault}", where=where) from fault
