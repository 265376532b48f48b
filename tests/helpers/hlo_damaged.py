"""Damaged and hostile HLO modules, and the pieces that they are built of."""

from __future__ import annotations

from costax.hlo.proto import MESSAGES


def build(message: str, /, **fields) -> bytes:
    return MESSAGES[message](**fields).SerializeToString()


F32 = build("Shape", element_type=11, dimensions=[2], layout=MESSAGES["Layout"](minor_to_major=[0]))


def instruction(id_: int, opcode: str = "negate", **fields) -> bytes:
    return build("Instruction", **{"name": b"x%d" % id_, "opcode": opcode.encode(), "id": id_, "shape": F32, **fields})


def computation(id_: int, *instructions: bytes, root: int = 1) -> bytes:
    return build("Computation", name=b"c%d" % id_, id=id_, root_id=root, instructions=list(instructions))


def module(*computations: bytes, entry: int = 1) -> bytes:
    return build("Module", name=b"m", entry_computation_id=entry, computations=list(computations))


def shaped(**fields) -> bytes:
    return module(computation(1, instruction(1, "parameter", shape=build("Shape", **fields))))


def nested(depth: int) -> bytes:
    shape = F32
    for _ in range(depth):
        shape = build("Shape", element_type=13, tuple_shapes=[shape])
    return module(computation(1, instruction(1, "parameter", shape=shape)))


def tower(height: int) -> bytes:
    """Each computation applies the one before 2^40 times."""
    big = build("Shape", element_type=2, dimensions=[2**40], layout=MESSAGES["Layout"](minor_to_major=[0]))
    comps = [computation(1, instruction(1, "parameter"), instruction(2, operand_ids=[1]), root=2)]
    for i in range(2, height):
        p = instruction(1, "parameter", shape=big)
        comps.append(
            computation(i, p, instruction(2, "map", operand_ids=[1], shape=big, called_computation_ids=[i - 1]), root=2)
        )
    return module(*comps, entry=height - 1)


def conv(**window) -> bytes:
    shape = build(
        "Shape", element_type=11, dimensions=[1, 2**30, 1], layout=MESSAGES["Layout"](minor_to_major=[2, 1, 0])
    )
    numbers = build(
        "ConvolutionDimensionNumbers",
        input_batch_dimension=0,
        input_feature_dimension=2,
        input_spatial_dimensions=[1],
        kernel_spatial_dimensions=[1],
        output_spatial_dimensions=[1],
        output_feature_dimension=2,
    )
    made = {"size": 2**30, "stride": 1, "window_dilation": 1, "base_dilation": 1, **window}
    return module(
        computation(
            1,
            instruction(1, "parameter", shape=shape),
            instruction(
                2,
                "convolution",
                shape=shape,
                operand_ids=[1, 1],
                convolution_dimension_numbers=numbers,
                window=build("Window", dimensions=[build("WindowDimension", **made)]),
                feature_group_count=1,
                batch_group_count=1,
            ),
            root=2,
        )
    )


DAMAGED = {
    "empty": b"",
    "no protobuf": b"\xff" * 100,
    "a length of 2 GB": b"\x1a\xff\xff\xff\xff\x07" + b"\x00" * 50,
    "no computation": build("Module", name=b"m"),
    "entry missing": module(computation(1, instruction(1)), entry=7),
    "root missing": module(computation(1, instruction(1), root=9)),
    "computation without instructions": module(computation(1)),
    "operand missing": module(computation(1, instruction(1, operand_ids=[5]))),
    "operand of itself": module(computation(1, instruction(1, operand_ids=[1]))),
    "operands in a circle": module(computation(1, instruction(1, operand_ids=[2]), instruction(2, operand_ids=[1]))),
    "control in a circle": module(computation(1, instruction(1, control_predecessor_ids=[1]))),
    "callee missing": module(computation(1, instruction(1, "call", called_computation_ids=[8]))),
    "calls itself": module(computation(1, instruction(1, "call", called_computation_ids=[1]))),
    "calls in a circle": module(
        computation(1, instruction(1, "call", called_computation_ids=[2])),
        computation(2, instruction(1, "call", called_computation_ids=[1])),
    ),
    "two with one id": module(computation(1, instruction(1), instruction(1))),
    "two computations with one id": module(computation(1, instruction(1)), computation(1, instruction(1))),
    "no opcode": module(computation(1, instruction(1, ""))),
    "unknown opcode": module(computation(1, instruction(1, "frobnicate"))),
    "too few operands": module(computation(1, instruction(1, "gather"))),
    "call of nothing": module(computation(1, instruction(1, "call"))),
    "conditional without branches": module(computation(1, instruction(1, "conditional"))),
    "no shape": module(computation(1, instruction(1, shape=b""))),
    "shape is no message": module(computation(1, instruction(1, shape=b"\x18\xff\xff"))),
    "unknown element type": shaped(element_type=99),
    "negative extent": shaped(element_type=11, dimensions=[-5]),
    "absurd extents": shaped(element_type=11, dimensions=[2**62] * 1000),
    "layout of another rank": shaped(element_type=11, dimensions=[3], layout=MESSAGES["Layout"](minor_to_major=[0, 1])),
    "empty buffer": shaped(element_type=34),
    "tuples in tuples": nested(5000),
    "a tower of repetitions": tower(300),
    "a million taps at a billion places": conv(stride=2, base_dilation=3),
    "no dilation": conv(base_dilation=0),
    "negative groups": module(
        computation(
            1,
            instruction(1, "parameter"),
            instruction(2, "convolution", operand_ids=[1, 1], feature_group_count=-1),
            root=2,
        )
    ),
    "dot over a missing dimension": module(
        computation(
            1,
            instruction(1, "parameter"),
            instruction(
                2,
                "dot",
                operand_ids=[1, 1],
                dot_dimension_numbers=build("DotDimensionNumbers", lhs_contracting_dimensions=[4]),
            ),
            root=2,
        )
    ),
    "dot over one dimension ten thousand times": module(
        computation(
            1,
            instruction(1, "parameter"),
            instruction(
                2,
                "dot",
                operand_ids=[1, 1],
                dot_dimension_numbers=build("DotDimensionNumbers", lhs_contracting_dimensions=[0] * 10**4),
            ),
            root=2,
        )
    ),
    "fft of a hundred thousand lengths": module(
        computation(
            1, instruction(1, "parameter"), instruction(2, "fft", operand_ids=[1], fft_length=[2**60] * 10**5), root=2
        )
    ),
}
