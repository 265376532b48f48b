"""Generated fusions, calls and dead code: everything that XLA's visit order and byte rules turn on."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hlo_oracle import agree, from_text

EXTENTS = (1, 2, 3, 8, 1001, 5003)


class Writer:
    """Writes one computation of random instructions over two-dimensional arrays, dead ones and calls included."""

    def __init__(self, draw, name: str, module: list[str], depth: int, parameters: list[tuple[int, int]]):
        self.draw, self.name, self.module, self.depth = draw, name, module, depth
        self.lines: list[str] = []
        self.values: list[tuple[str, tuple[int, int]]] = []
        for i, shape in enumerate(parameters):
            self.add(shape, f"parameter({i})")

    def add(self, shape, text: str) -> tuple[str, tuple[int, int]]:
        name = f"{self.name}_v{len(self.lines)}"
        before = [n for n, _ in self.values]
        if before and not text.startswith("parameter") and self.draw(st.integers(0, 9)) == 0:
            text += f", control-predecessors={{{self.draw(st.sampled_from(before))}}}"
        self.lines.append(f"{name} = f32[{shape[0]},{shape[1]}] {text}")
        self.values.append((name, shape))
        return self.values[-1]

    def scalar(self) -> str:
        name = f"{self.name}_i{len(self.lines)}"
        self.lines.append(f"{name} = s32[] constant(0)")
        return name

    def step(self) -> None:
        name, shape = self.draw(st.sampled_from(self.values))
        same = [n for n, s in self.values if s == shape]
        smaller = tuple(self.draw(st.integers(1, n)) for n in shape)
        match self.draw(st.integers(0, 11 if self.depth else 9)):
            case 0 | 1:
                self.add(shape, f"add({name}, {self.draw(st.sampled_from(same))})")
            case 2:
                self.add(shape, f"power({name}, {self.draw(st.sampled_from(same))})")
            case 3:
                self.add(smaller, f"slice({name}), slice={{[0:{smaller[0]}],[0:{smaller[1]}]}}")
            case 4:
                indices = f"{self.scalar()}, {self.scalar()}"
                sizes = f"dynamic_slice_sizes={{{smaller[0]},{smaller[1]}}}"
                self.add(smaller, f"dynamic-slice({name}, {indices}), {sizes}")
            case 5:
                update = self.add(smaller, f"slice({name}), slice={{[0:{smaller[0]}],[0:{smaller[1]}]}}")[0]
                target = self.draw(st.sampled_from(same))
                self.add(shape, f"dynamic-update-slice({target}, {update}, {self.scalar()}, {self.scalar()})")
            case 6:
                self.add(shape, f"broadcast({name}), dimensions={{0,1}}")
            case 7:
                self.add((1, prod(shape)), f"reshape({name})")
            case 8:
                self.add((2, 3), "constant({{1,2,3},{4,5,6}})")
            case 9:
                self.add((shape[1], shape[0]), f"transpose({name}), dimensions={{1,0}}")
            case 10:
                operands = self.draw(st.lists(st.sampled_from(self.values), min_size=1, max_size=3))
                kind = self.draw(st.sampled_from(["kLoop", "kInput", "kCustom"]))
                callee, out = computation(self.draw, self.module, self.depth - 1, [s for _, s in operands])
                names = ", ".join(n for n, _ in operands)
                self.add(out, f"fusion({names}), kind={kind}, calls={callee}")
            case _:
                operands = self.draw(st.lists(st.sampled_from(self.values), min_size=1, max_size=3))
                callee, out = computation(self.draw, self.module, self.depth - 1, [s for _, s in operands])
                self.add(out, f"call({', '.join(n for n, _ in operands)}), to_apply={callee}")


def computation(draw, module: list[str], depth: int, parameters, *, entry: bool = False, outputs: bool = False):
    name = f"c{len(module)}_{depth}_{draw(st.integers(0, 10**9))}"
    writer = Writer(draw, name, module, depth, parameters)
    for _ in range(draw(st.integers(1, 7))):
        writer.step()
    # XLA looks at operand 0 of the root of a nested fusion, even if there is none (undefined behaviour in C++).
    writer.add(writer.values[-1][1], f"add({writer.values[-1][0]}, {writer.values[-1][0]})")
    rooted = [
        v
        for v, line in zip(writer.values, [x for x in writer.lines if "s32[]" not in x], strict=True)
        if "parameter(" not in line and "constant(" not in line
    ]
    root, shape = draw(st.sampled_from(rooted))
    lines = writer.lines
    if outputs:
        chosen = [draw(st.sampled_from(writer.values)) for _ in range(draw(st.integers(1, 3)))]
        shape = f"({', '.join(f'f32[{a},{b}]' for _, (a, b) in chosen)})"
        lines = [*lines, f"ROOT {name}_t = {shape} tuple({', '.join(n for n, _ in chosen)})"]
    else:
        lines = [f"ROOT {line}" if line.startswith(f"{root} ") else line for line in lines]
    module.append(f"{'ENTRY ' if entry else ''}{name} {{\n  " + "\n  ".join(lines) + "\n}\n")
    return name, shape


@st.composite
def modules(draw) -> str:
    module: list[str] = []
    shapes = draw(st.lists(st.tuples(st.sampled_from(EXTENTS), st.sampled_from(EXTENTS)), min_size=1, max_size=3))
    if draw(st.booleans()):
        computation(draw, module, 2, shapes, entry=True)
        return "".join(module)
    callee, out = computation(draw, module, 1, shapes, outputs=True)
    parameters = "\n".join(f"  p{i} = f32[{a},{b}] parameter({i})" for i, (a, b) in enumerate(shapes))
    operands = ", ".join(f"p{i}" for i in range(len(shapes)))
    module.append(
        f"ENTRY e {{\n{parameters}\n  f = {out} fusion({operands}), kind=kLoop, calls={callee}\n"
        f'  ROOT r = f32[1,1] custom-call(f), custom_call_target="x"\n}}\n'
    )
    return "".join(module)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(modules())
def test_generated_modules_cost_what_xla_says(text):
    agree(from_text(text))


def entry_of(fused: str, call: str, *parameters: str) -> bytes:
    made = "\n".join(f"  p{i} = {shape} parameter({i})" for i, shape in enumerate(parameters))
    return from_text(f"{fused}\nENTRY e {{\n{made}\n  ROOT r = {call}\n}}\n")


def test_a_custom_fusion_with_a_gather_is_that_gather_and_nothing_else():
    fused = """f {
  a = f32[100,8] parameter(0)
  i = s32[7] parameter(1)
  b = f32[100,8] exponential(a)
  ROOT g = f32[7,8] gather(b, i), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0},
    index_vector_dim=1, slice_sizes={1,8}
}"""
    mine = agree(entry_of(fused, "f32[7,8] fusion(p0, p1), kind=kCustom, calls=f", "f32[100,8]", "s32[7]"))
    assert tuple(mine.total) == (0, 0, 2 * 7 * 8 * 4 + 7 * 4)
    mine = agree(entry_of(fused, "f32[7,8] fusion(p0, p1), kind=kLoop, calls=f", "f32[100,8]", "s32[7]"))
    assert mine.total.transcendentals == 100 * 8


def test_a_custom_fusion_with_a_scatter_runs_the_combiner():
    fused = """c {
  x = f32[] parameter(0)
  y = f32[] parameter(1)
  ROOT z = f32[] add(x, y)
}
f {
  a = f32[100,8] parameter(0)
  i = s32[7] parameter(1)
  u = f32[7,8] parameter(2)
  v = f32[7,8] exponential(u)
  ROOT g = f32[100,8] scatter(a, i, v), update_window_dims={1}, inserted_window_dims={0},
    scatter_dims_to_operand_dims={0}, index_vector_dim=1, to_apply=c
}"""
    mine = agree(
        entry_of(fused, "f32[100,8] fusion(p0, p1, p2), kind=kCustom, calls=f", "f32[100,8]", "s32[7]", "f32[7,8]")
    )
    assert tuple(mine.total) == (7 * 8, 0, 3 * 7 * 8 * 4 + 7 * 4)


@pytest.mark.parametrize("kind", ["kLoop", "kCustom"])
def test_tuple_parameters_are_read_through_their_elements(kind):
    fused = """f {
  t = (f32[100], (f32[7], s8[3]), f32[9]) parameter(0)
  a = f32[100] get-tuple-element(t), index=0
  b = f32[10] slice(a), slice={[0:10]}
  i = (f32[7], s8[3]) get-tuple-element(t), index=1
  d = f32[7] get-tuple-element(i), index=0
  g = f32[7] add(d, d)
  ROOT r = (f32[10], f32[7]) tuple(b, g)
}"""
    agree(entry_of(fused, f"(f32[10], f32[7]) fusion(p0), kind={kind}, calls=f", "(f32[100], (f32[7], s8[3]), f32[9])"))


def test_branches_are_the_maximum_and_the_first_may_be_negative():
    def branches(first: str, second: str) -> bytes:
        text = "".join(
            f"g{i} {{\n  a = f32[9] parameter(0)\n  ROOT b = f32[9] {body}\n}}\n"
            for i, body in enumerate((first, second))
        )
        call = "f32[9] conditional(p0, p1, p1), branch_computations={g0,g1}"
        return entry_of(text, call, "s32[]", "f32[9]")

    unknown = 'custom-call(a), custom_call_target="x"'
    assert agree(branches(unknown, "copy(a)")).total.flops == -1
    assert agree(branches("copy(a)", unknown)).total.flops == 0
    mine = agree(branches("negate(a)", "exponential(a)"))
    assert tuple(mine.total) == (9, 9, 72)
    rows = {row.instruction.opcode: row for row in mine.instructions}
    assert (rows["negate"].flops, rows["exponential"].transcendentals) == (9, 9)


def test_float32_sums_depend_on_the_order_and_follow_xla():
    # 2^24 + 1 is not a float32: small terms survive only if they are added before the large one.
    names = {"x": 2**24, "y": 1, "z": 1, "w": 3}
    for order in ("xyzw", "yzwx", "wxzy", "zxyw"):
        dead = "\n".join(f"  d{n} = s8[{names[n]}] negate(p{n})" for n in order)
        parameters = "\n".join(f"  p{n} = s8[{names[n]}] parameter({i})" for i, n in enumerate(names))
        agree(
            from_text(
                f"ENTRY e {{\n{parameters}\n{dead}\n"
                "  q = s8[5] iota(), iota_dimension=0\n  ROOT r = s8[5] negate(q)\n}\n"
            )
        )


def test_a_computation_called_twice_counts_twice_and_deep_chains_end():
    depth = 2000
    text = ["g0 {\n  a = f32[3] parameter(0)\n  ROOT b = f32[3] negate(a)\n}\n"]
    for i in range(1, depth):
        twice = f"  c = f32[3] call(b), to_apply=g{i - 1}\n" if i < 40 else ""
        root = "c" if i < 40 else "b"
        text.append(
            f"g{i} {{\n  a = f32[3] parameter(0)\n  b = f32[3] call(a), to_apply=g{i - 1}\n{twice}"
            f"  ROOT r = f32[3] copy({root})\n}}\n"
        )
    from costax.hlo import read_bytes, replay_module

    module = read_bytes(entry_of("".join(text), f"f32[3] call(p0), to_apply=g{depth - 1}", "f32[3]"))
    assert replay_module(module).total.flops == 3 * 2**39
