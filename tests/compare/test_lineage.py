"""What an instruction goes back to, and what no pass does: small modules of HLO, one version after the other.

A line is `name = shape opcode(operands)`, and behind it the name of jax. `~1~/exp` stands for the equation 1 of the
program, `@~1~/exp` for the same name inside a function, where it is relative to the call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from costax.compare.integrity import MUTATED, REPLACED, REVIVED, TWIN, UNDONE
from costax.compare.lineage import Lineage
from costax.compare.owners import MarkedNames, callers, costs_by_owner
from costax.compare.passes import Steps
from costax.hlo.replay import Properties
from costax.hlo.series import ModuleCost, ModuleSeries
from hlo_oracle import from_text, reducer

ROOT = "jit(f)/~0~/"
PARAMETERS = ("p = f32[8] parameter(0)", "q = f32[8] parameter(1)", "s = f32[8,8] parameter(2)")


class Addresses(MarkedNames):
    """Owners that are addresses."""

    def owner(self, name: str, caller: Any) -> Any:
        return Address(self.inside(name, caller)) or None


class Address(tuple):
    scope = ()


def text(*lines: str, before: str = "", parameters: Sequence[str] = PARAMETERS) -> str:
    return f"{before}\nENTRY e {{\n" + "\n".join(map(line, (*parameters, *lines))) + "\n}\n"


def line(written: str) -> str:
    found = re.fullmatch(r"(.*\)) (@?)(\S*~\d+~\S*)", written)
    if found is None:
        return f"  {written}"
    return f'  {found[1]}, metadata={{op_name="{"" if found[2] else ROOT}{found[3]}"}}'


def versions(*texts: str) -> list[ModuleCost]:
    series = ModuleSeries()
    return [series.add(from_text(each)) for each in texts]


def origins(*texts: str) -> dict[str, str]:
    """What the instructions of the last version go back to, as it is written above."""
    first, *rest = versions(*texts)
    lineage = Lineage(first, Addresses())
    for each in rest:
        lineage.advance(each)
    return {name: origin.replace(ROOT, "") for name, origin in lineage.origins.items()}


def doubts(*texts: str) -> set[tuple[int, str, str]]:
    """The doubts about changes between versions: the number of the step, the instruction, and what is wrong."""
    first, *rest = versions(*texts)
    steps = Steps(first, Addresses())
    for number, each in enumerate(rest, 1):
        steps.add("", f"pass {number}", each)
    changed = {(step.number, change.name) for step in steps.found for change in step.changes}
    return {(doubt.step, doubt.name, doubt.why) for doubt in steps.integrity.doubts if doubt[:2] in changed}


# Lineage.


def test_what_stays_keeps_its_origin_under_the_name_of_an_equal_one():
    before, after = (text(f"ROOT x = f32[8] exponential(p) ~{mark}~/exp") for mark in (1, 2))
    assert origins(before, after)["x"] == "~1~/exp"


def dot(name: str, lhs: str, rhs: str, jax: str, shape: str = "f32[8,8]") -> str:
    numbers = "lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    return f'{name} = {shape} dot({lhs}, {rhs}), {numbers}, metadata={{op_name="{jax}"}}'


TRANSPOSED = text(
    "k = f32[8,8] copy(s)",
    dot("d", "s", "k", ROOT + "~1~/dot"),
    'ROOT t = f32[8,8] transpose(d), dimensions={1,0}, metadata={op_name="' + ROOT + '~2~/transpose"}',
)
TAKEN_IN = text("k = f32[8,8] copy(s)", "ROOT " + dot("d.2", "k", "s", ROOT + "~2~/transpose"))


def test_a_product_that_takes_in_a_transposition_is_the_product():
    assert origins(TRANSPOSED, TAKEN_IN)["d.2"] == "~1~/dot"


def test_so_is_one_with_other_operands_beside_it():
    moved = text(
        "k = f32[8,8] copy(s)", "l = f32[8,8] negate(k) ~9~/neg", "ROOT " + dot("d.2", "l", "s", ROOT + "~2~/transpose")
    )
    assert origins(TRANSPOSED, moved)["d.2"] == "~1~/dot"


def test_later_copies_go_back_to_the_same_equation():
    copied = text("l = f32[8,8] negate(s) ~9~/neg", "ROOT " + dot("d.3", "l", "l", ROOT + "~2~/transpose"))
    assert origins(TRANSPOSED, TAKEN_IN, copied)["d.3"] == "~1~/dot"


def test_and_so_do_smaller_ones():
    half = text(
        "h = f32[4,8] slice(s), slice={[0:4], [0:8]}",
        "ROOT " + dot("d.3", "h", "s", ROOT + "~2~/transpose", "f32[4,8]"),
    )
    assert origins(TRANSPOSED, TAKEN_IN, half)["d.3"] == "~1~/dot"


def test_what_is_new_goes_back_to_its_name_of_jax():
    assert origins(text("ROOT x = f32[8] copy(p)"), text("ROOT y = f32[8] tanh(p) ~4~/tanh"))["y"] == "~4~/tanh"


def test_a_copy_before_a_copied_user_goes_back_to_the_original():
    # `c` got its origin from its name in the first version, and lost the name.
    before = ("c = f32[8] exponential(p) ~2~/exp", "ROOT u = f32[8] add(c, p) ~1~/add")
    unnamed = ("c = f32[8] exponential(p)", before[1])
    copied = ("k = f32[8] copy(p)", "c.2 = f32[8] exponential(k)", "ROOT u.2 = f32[8] add(c.2, k) ~1~/add")
    assert origins(text(*before), text(*unnamed), text(*copied))["c.2"] == "~2~/exp"


def test_a_copy_before_the_second_operand_of_a_copied_user_goes_back_to_that_operand():
    # Both operands cost the same, so that only their place tells which is which.
    before = ("a = f32[8] sine(p) ~2~/sin", "b = f32[8] sine(q) ~3~/sin", "ROOT u = f32[8] subtract(a, b) ~1~/sub")
    unnamed = ("a = f32[8] sine(p)", "b = f32[8] sine(q)", before[2])
    k, a, b = "k = f32[8] copy(p)", "a.2 = f32[8] sine(k)", "b.2 = f32[8] sine(k)"
    copied = (k, a, b, "ROOT u.2 = f32[8] subtract(a.2, b.2) ~1~/sub")
    found = origins(text(*before), text(*unnamed), text(*copied))
    assert (found["a.2"], found["b.2"]) == ("~2~/sin", "~3~/sin")


def test_a_clone_goes_back_to_what_it_is_named_after():
    before = ("x = f32[8] exponential(p) ~1~/exp", "ROOT u = f32[8] add(x, p) ~3~/add")
    k, clone = "k = f32[8] copy(q)", "x.clone.1 = f32[8] exponential(k)"
    after = (before[0], k, clone, "ROOT v = f32[8] subtract(x, x.clone.1) ~3~/sub")
    assert origins(text(*before), text(*after))["x.clone.1"] == "~1~/exp"


def test_what_stands_in_the_place_of_a_removed_one_goes_back_to_it():
    before = ("x = f32[8] exponential(p) ~1~/exp", "ROOT u = f32[8] add(x, q) ~3~/add")
    after = ("k = f32[8] copy(q)", "y = f32[8] multiply(k, k)", "ROOT u = f32[8] add(y, q) ~3~/add")
    assert origins(text(*before), text(*after))["y"] == "~1~/exp"
    root = "ROOT y = f32[8] multiply(k, k)"
    assert origins(text("ROOT x = f32[8] exponential(p) ~1~/exp"), text(after[0], root))["y"] == "~1~/exp"


def test_what_does_as_much_with_the_same_operand_goes_back_to_the_removed_one():
    before = ("x = f32[8] sine(p) ~1~/sin", "ROOT u = f32[8] add(x, q) ~3~/add")
    after = ("y = f32[8] cosine(p)", "ROOT w = f32[8] subtract(y, q) ~4~/sub")
    assert origins(text(*before), text(*after))["y"] == "~1~/sin"


def test_a_constant_is_no_operand_in_common():
    constant = ("c = f32[] constant(2)", "b = f32[8] broadcast(c), dimensions={}")
    before = (*constant, "x = f32[8] add(p, b) ~1~/add", "ROOT u = f32[8] tanh(x) ~2~/tanh")
    after = (*constant, "y = f32[8] subtract(q, b)", "ROOT w = f32[8] sqrt(y) ~3~/sqrt")
    assert origins(text(*before), text(*after))["y"] == "~3~/sqrt"


def test_no_two_new_ones_do_the_work_of_one_removed():
    before = ("x = f32[8] sine(p) ~1~/sin", "ROOT u = f32[8] add(x, q) ~3~/add")
    after = (
        "y = f32[8] cosine(p)",
        "z = f32[8] cosine(p)",
        "v = f32[8] subtract(y, q) ~4~/sub",
        "ROOT w = f32[8] divide(z, v) ~5~/div",
    )
    found = origins(text(*before), text(*after))
    assert [found["y"], found["z"]].count("~1~/sin") == 1


def test_what_has_no_name_goes_back_to_its_user_else_to_its_operand():
    before = text("ROOT x = f32[8] copy(p)")
    used = text("y = f32[8] sine(p)", "ROOT u = f32[8] add(y, q) ~3~/add")
    assert origins(before, used)["y"] == "~3~/add"
    unused = text("y = f32[8] sine(p) ~4~/sin", "ROOT u = f32[8] add(y, q)")
    assert origins(before, unused)["u"] == "~4~/sin"


FUNCTION = """g {{
  a = f32[8,8] parameter(0)
  b = f32[8,8] parameter(1)
  {}
}}
"""
CALL = 'ROOT c = f32[8,8] call(s, s), to_apply=g, metadata={op_name="' + ROOT + '~3~/jit(g)"}'


def test_the_call_stands_before_the_names_of_an_inlined_function():
    def function(*lines: str) -> str:
        return text(CALL, before=FUNCTION.format("\n  ".join(lines)))

    negated = 'ROOT n = f32[8,8] negate({}), metadata={{op_name="{}~9~/neg"}}'
    transposed = function(
        dot("d", "a", "b", "~7~/dot"),
        't = f32[8,8] transpose(d), dimensions={1,0}, metadata={op_name="~8~/transpose"}',
        negated.format("t", ""),
    )
    taken_in = function(dot("d.2", "b", "a", "~8~/transpose"), negated.format("d.2", ""))
    call = ROOT + "~3~/jit(g)/"
    inlined = text(dot("d.3", "s", "s", call + "~8~/transpose"), negated.format("d.3", call).replace("n =", "n.3 ="))
    assert origins(transposed, taken_in)["d.2"] == "~7~/dot"
    assert origins(transposed, taken_in, inlined)["d.3"] == "~3~/jit(g)/~7~/dot"


def test_renamed_instructions_keep_their_origins():
    # Both do the same, so that only their places tell which is which.
    before = ("x = f32[8] sine(p) ~1~/sin", "y = f32[8] sine(p) ~2~/sin", "ROOT u = f32[8] add(x, y) ~3~/add")
    unnamed = ("x = f32[8] sine(p)", "y = f32[8] sine(p)", before[2])
    renamed = ("x.2 = f32[8] sine(p)", "y.2 = f32[8] sine(p)", "ROOT u.2 = f32[8] add(x.2, y.2)")
    found = origins(text(*before), text(*unnamed), text(*renamed))
    assert (found["x.2"], found["y.2"], found["u.2"]) == ("~1~/sin", "~2~/sin", "~3~/add")


LOOP = """body {{
  t = (s32[], f32[8]) parameter(0)
  i = s32[] get-tuple-element(t), index=0
  v = f32[8] get-tuple-element(t), index=1
  w = f32[8] sine(v){body}
  ROOT r = (s32[], f32[8]) tuple(i, w)
}}
condition {{
  t.1 = (s32[], f32[8]) parameter(0)
  i.1 = s32[] get-tuple-element(t.1), index=0
  ROOT l = pred[] compare(i.1, i.1), direction=LT
}}
"""


def test_what_has_no_name_in_a_loop_goes_back_to_the_loop():
    lines = (
        "z = s32[] constant(0)",
        "st = (s32[], f32[8]) tuple(z, p)",
        f'lo = (s32[], f32[8]) while(st), condition=condition, body=body, metadata={{op_name="{ROOT}~5~/while"}}',
        "ROOT o = f32[8] get-tuple-element(lo), index=1",
    )
    before = text("ROOT x = f32[8] copy(p)")
    assert origins(before, text(*lines, before=LOOP.format(body="")))["w"] == "~5~/while"


def test_what_has_no_name_in_a_loop_without_a_name_goes_back_to_the_loop_around():
    def body(number: int, *lines: str) -> str:
        return f"""body.{number} {{
  t.{number} = (s32[], f32[8]) parameter(0)
  i.{number} = s32[] get-tuple-element(t.{number}), index=0
  v.{number} = f32[8] get-tuple-element(t.{number}), index=1
  {" ".join(lines)}
}}
"""

    inner = body(1, "w = f32[8] sine(v.1)\n", "ROOT r.1 = (s32[], f32[8]) tuple(i.1, w)")
    outer = body(
        2, "s.2 = (s32[], f32[8]) tuple(i.2, v.2)\n", "ROOT l.2 = (s32[], f32[8]) while(s.2), condition=c, body=body.1"
    )
    condition = LOOP.format(body="").split("}\n", 1)[1].replace("condition {", "c {")
    lines = (
        "z = s32[] constant(0)",
        "st = (s32[], f32[8]) tuple(z, p)",
        f'lo = (s32[], f32[8]) while(st), condition=c, body=body.2, metadata={{op_name="{ROOT}~5~/while"}}',
        "ROOT o = f32[8] get-tuple-element(lo), index=1",
    )
    before = text("ROOT x = f32[8] copy(p)")
    assert origins(before, text(*lines, before=inner + condition + outer))["w"] == "~5~/while"


# Owners.


def test_a_function_costs_each_of_its_callers_what_it_does_for_them():
    function = "g {\n  a = f32[8] parameter(0)\n" + line("  ROOT x = f32[8] sine(a) @~7~/sin") + "\n}\n"
    calls = [
        f'{name} = f32[8] call({operand}), to_apply=g, metadata={{op_name="{ROOT}~{mark}~/jit(g)"}}'
        for name, operand, mark in (("c.1", "p", 1), ("c.2", "c.1", 1), ("ROOT c.3", "c.2", 2))
    ]
    (version,) = versions(text(*calls, before=function))
    found = costs_by_owner(version, Lineage(version, Addresses()).origins, Addresses())
    assert {owner: cost.transcendentals for owner, cost in found.items() if cost.transcendentals} == {
        (1, 7): 16,
        (2, 7): 8,
    }


def test_the_times_of_a_call_are_multiplied():
    inner = "g {\n  a = f32[8] parameter(0)\n" + line("  ROOT x = f32[8] sine(a) @~7~/sin") + "\n}\n"
    call = 'f32[8] call({}), to_apply={}, metadata={{op_name="{}"}}'
    outer = (
        "h {\n  b = f32[8] parameter(0)\n"
        + f"  d.1 = {call.format('b', 'g', '~4~/jit(g)')}\n  ROOT d.2 = {call.format('d.1', 'g', '~4~/jit(g)')}\n}}\n"
    )
    entry = [f"{n} = {call.format(x, 'h', ROOT + '~1~/jit(h)')}" for n, x in (("c.1", "p"), ("ROOT c.2", "c.1"))]
    (version,) = versions(text(*entry, before=inner + outer))
    counted = callers(version, Lineage(version, Addresses()).origins, Addresses())
    assert Properties(4, 4, 4) in [times for by_caller in counted.values() for times in by_caller.values()]
    assert {caller for by_caller in counted.values() for caller in by_caller} == {(), (1,), (1, 4)}


# Integrity. Every list of versions is what the compiler wrote, with one version that it did not write.


SINE = "x = f32[8] sine(p) ~1~/sin"
USER = "ROOT u = f32[8] add(x, q) ~2~/add"
TRUE = text(SINE, USER)


def test_what_the_compiler_writes_is_in_no_doubt():
    fused = text("x.2 = f32[8] sine(p) ~1~/sin", "ROOT u.2 = f32[8] add(x.2, q) ~2~/add")
    merged = text(SINE, "y = f32[8] sine(p) ~3~/sin", "ROOT u = f32[8] add(x, y) ~2~/add")
    assert not doubts(TRUE, TRUE, fused, fused)
    assert not doubts(merged, text(SINE, "ROOT u = f32[8] add(x, x) ~2~/add"))


def test_a_name_does_not_come_back():
    dropped = text("ROOT u = f32[8] add(p, q) ~2~/add")
    assert doubts(TRUE, dropped, TRUE) >= {(1, "x", REVIVED), (2, "x", REVIVED)}
    # Nor later.
    assert (3, "x", REVIVED) in doubts(
        TRUE, dropped, dropped.replace("u =", "v ="), text(SINE, "ROOT w = f32[8] add(x, q) ~2~/add")
    )


@pytest.mark.parametrize(
    "falsified",
    [
        "x = f32[8] copy(p) ~1~/sin",
        "x = f32[8] cosine(p) ~1~/sin",
        "x = f32[8] negate(p) ~1~/sin",
    ],
)
def test_an_instruction_keeps_its_opcode(falsified):
    found = doubts(TRUE, text(falsified, USER), TRUE)
    if "cosine" in falsified:
        # What costs the same does not change the account.
        assert not found
    else:
        assert found >= {(1, "x", MUTATED), (2, "x", MUTATED)}


HALF = (
    "h = f32[4] slice(p), slice={[0:4]}",
    "x = f32[4] sine(h) ~1~/sin",
    "c = f32[8] concatenate(x, x), dimensions={0}",
    "ROOT u = f32[8] add(c, q) ~2~/add",
)


def test_an_instruction_keeps_its_number_of_elements():
    assert doubts(TRUE, text(*HALF)) == {(1, "x", MUTATED)}


def reduced(*lines: str) -> str:
    return text(*lines, before=reducer())


SUM = 'r = f32[8] reduce({}, z), dimensions={{1}}, to_apply=c, metadata={{op_name="' + ROOT + '~{}~/sum"}}'
ZERO = "z = f32[] constant(0)"


def test_an_instruction_with_the_same_operands_costs_the_same():
    def strided(padding: str) -> str:
        window = f"window={{size=3 stride=2 pad={padding}}}"
        return text(
            "v = f32[1,8,1] reshape(p)",
            "k = f32[3,1,1] parameter(3)",
            f"ROOT w = f32[1,4,1] convolution(v, k), {window}, dim_labels=b0f_0io->b0f, "
            f'metadata={{op_name="{ROOT}~1~/c"}}',
        )

    # Both have 4 elements, but this window takes more of the padding.
    assert doubts(strided("1_1"), strided("2_0")) == {(1, "w", MUTATED)}


def test_a_reduction_of_something_else_may_cost_something_else():
    before = reduced(ZERO, "ROOT " + SUM.format("s", 1))
    half = "h = f32[8,4] slice(s), slice={[0:8], [0:4]}"
    assert not doubts(before, reduced(ZERO, half, "ROOT " + SUM.format("h", 1)))


def test_an_instruction_with_another_cost_gets_its_cost_back_from_no_pass():
    half = "h = f32[8,4] slice(s), slice={[0:8], [0:4]}"
    true, falsified = reduced(ZERO, "ROOT " + SUM.format("s", 1)), reduced(ZERO, half, "ROOT " + SUM.format("h", 1))
    assert doubts(true, falsified, true) == {(1, "r", UNDONE), (2, "r", UNDONE)}


FUSED = """fused {{
  a = f32[8] parameter(0)
  k = f32[8] negate(a)
  {}
  ROOT n = f32[8] negate({})
}}
"""


def test_an_instruction_does_not_move_into_a_fusion_under_its_name():
    def fused(name: str) -> str:
        sine = line(f"{name} = f32[8] sine(k) ~1~/sin")
        return text("ROOT f = f32[8] fusion(p), kind=kLoop, calls=fused", before=FUSED.format(sine, name))

    # The first computation keeps its number.
    before = reduced("x = f32[8] sine(p) ~1~/sin", "y = f32[8] sine(q) ~1~/sin", "ROOT u = f32[8] add(x, y) ~2~/add")
    assert (2, "x", MUTATED) in doubts(before, fused("x"), fused("v"))
    assert not doubts(before, fused("v"))


def test_work_does_not_come_back_under_another_name():
    dropped = text("ROOT u = f32[8] add(p, q) ~2~/add")
    fused = text("x.2 = f32[8] sine(p) ~1~/sin", "ROOT u.2 = f32[8] add(x.2, q) ~2~/add")
    assert doubts(TRUE, dropped, fused) >= {(1, "x", UNDONE), (2, "x.2", UNDONE)}


def test_work_that_stood_beside_it_all_the_time_is_not_back():
    # As at two call sites of a function: one goes, and later a copy comes for another.
    other = "y = f32[8] sine(q) ~1~/sin"
    both = text(SINE, other, "ROOT u = f32[8] add(x, y) ~2~/add")
    one = text(other, "ROOT u = f32[8] add(q, y) ~2~/add")
    again = text(other, "x.2 = f32[8] sine(p) ~1~/sin", "ROOT u = f32[8] add(x.2, y) ~2~/add")
    assert not doubts(both, one, again)


def test_a_single_operation_may_come_back():
    # An unrolled loop has one for each counter.
    scalar = ("z = f32[] constant(1)", "x{} = f32[] sine(z) ~1~/sin", "ROOT b = f32[8] broadcast(x{}), dimensions={{}}")
    true, again = (text(*(part.format(n) for part in scalar)) for n in ("", ".2"))
    dropped = text(scalar[0], "ROOT b = f32[8] broadcast(z), dimensions={}")
    assert not {why for *_, why in doubts(true, dropped, again)} & {UNDONE}


def test_work_comes_back_from_no_inlined_function():
    def function(*lines: str) -> str:
        return text(
            'ROOT c = f32[8] call(p), to_apply=g, metadata={op_name="' + ROOT + '~5~/jit(g)"}',
            before="g {\n  a = f32[8] parameter(0)\n" + "\n".join(map(line, lines)) + "\n}\n",
        )

    true, dropped = function("ROOT x = f32[8] sine(a) @~1~/sin"), function("ROOT k = f32[8] copy(a)")
    inlined = text("ROOT y = f32[8] sine(p) ~5~/jit(g)/~1~/sin")
    assert not doubts(true, inlined)
    assert doubts(true, dropped, inlined) >= {(1, "x", UNDONE), (2, "y", UNDONE)}


def test_an_equation_without_work_gets_no_other_work():
    dropped = text("ROOT u = f32[8] add(p, q) ~2~/add")
    rewritten = text(
        "x.2 = f32[8] cosine(p) ~1~/sin", "m = f32[8] negate(x.2) ~1~/sin", "ROOT u = f32[8] add(m, q) ~2~/add"
    )
    assert not doubts(TRUE, rewritten)
    assert doubts(TRUE, dropped, rewritten) == {
        (1, "x", REPLACED),
        (2, "x.2", REPLACED),
        (2, "m", REPLACED),
    }


def test_a_copy_with_the_name_of_another_equation_does_not_count_as_its_work():
    # The product is rewritten, which gives it the name of the transposition; that work is no work of equation 2.
    plain = text("k = f32[8,8] copy(s)", "ROOT n = f32[8,8] copy(k)")
    assert not doubts(TRANSPOSED, TAKEN_IN, plain)
    named = text("k = f32[8,8] copy(s)", "ROOT " + dot("d.3", "k", "k", ROOT + "~2~/transpose"))
    assert not doubts(TRANSPOSED, TAKEN_IN, plain, named)


NEGATED = "n = f32[8] negate(x) ~3~/neg"
REPEATED = "y = f32[8] sine(p) ~1~/sin"
LIKE_TRUE = text(SINE, NEGATED, USER)


def test_an_instruction_that_nothing_reads_is_not_repeated():
    twice = text(SINE, NEGATED, REPEATED, USER)
    assert doubts(LIKE_TRUE, twice, LIKE_TRUE) == {(1, "y", TWIN), (2, "y", TWIN)}
    # Even if the other one is gone too, under another name.
    fused = text("x.2 = f32[8] sine(p) ~1~/sin", "ROOT u.2 = f32[8] add(x.2, q) ~2~/add")
    assert (2, "y", TWIN) in doubts(LIKE_TRUE, twice, fused)


def test_a_copy_that_stays_is_no_doubt():
    twice = text(SINE, NEGATED, REPEATED, "ROOT u = f32[8] add(y, q) ~2~/add")
    assert not doubts(LIKE_TRUE, twice, twice)
    # Nor one that is read in the place of something else, which the compiler rewrote.
    read = text(SINE, NEGATED, REPEATED, "ROOT u = f32[8] add(y, n) ~2~/add")
    assert not doubts(LIKE_TRUE, read, text(SINE, NEGATED, "ROOT u = f32[8] add(x, n) ~2~/add"))


def test_new_work_may_be_made_twice_and_merged():
    before = text("ROOT u = f32[8] divide(p, q) ~1~/div")
    products = [f"{name} = f32[8] multiply(p, q) ~1~/div" for name in "ab"]
    twice = text(*products, "ROOT m = f32[8] power(a, b) ~1~/div")
    merged = text(products[0], "ROOT m = f32[8] power(a, a) ~1~/div")
    assert not doubts(before, twice, merged)


@pytest.mark.parametrize("name", ["", " ~1~/convert"])
def test_a_pass_may_convert_again(name):
    def converted(*names: str) -> str:
        lines = [f"{x} = f16[8] convert(p){name}" for x in names]
        return text(*lines, f"ROOT m = f16[8] multiply({names[0]}, {names[-1]}) ~2~/mul")

    before = text("ROOT k = f16[8] parameter(3)")
    assert not doubts(before, converted("a", "b"), converted("a"))


def test_conversions_of_no_name_come_and_go():
    half = "c{} = f16[8] convert(p)"
    true = text(half.format(""), "ROOT m = f16[8] multiply(c, c) ~2~/mul")
    without = text("c.1 = f16[8] parameter(3)", "ROOT m = f16[8] multiply(c.1, c.1) ~2~/mul")
    again = text(half.format(".2"), "ROOT m = f16[8] multiply(c.2, c.2) ~2~/mul")
    assert not doubts(true, without, again)
