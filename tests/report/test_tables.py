"""Tables for people: what they show, and that they add up."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import costax
from costax.analysis.analysis import Analysis
from costax.cli.options import table as table_options
from costax.core.cost import Cost
from costax.core.equation import Operand
from costax.core.size import Size
from costax.errors import InputError, Missing
from costax.program.tree import Row, Unknown
from costax.report.tables import BY, SORT_KEYS, short_place, table
from costax.report.text import plain, render

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

GOLDEN = """\
two_layers: 704 MACs, 1.5 kFLOPs, 176 parameters.
inputs: f32[8,16], f32[16,3], x=f32[4,8]
MACs                   704           704
FLOPs                1.5 k         1,500
transcendentals         64            64
OPs                 1.56 k         1,564
traffic, unfused  2.01 KiB       2,060 B
parameters             176  176 in 704 B
exact                  yes

 scope     MACs    FLOPs   transc.   params   % FLOPs
 ────────────────────────────────────────────────────
 first      512   1.02 k        64      128      68.3
 second     192      476         0       48      31.7
   (own)      0       92         0        0       6.1
   head     192      384         0       48      25.6

 total      704    1.5 k        64      176     100.0

FLOPs = 2 x MACs + elementwise arithmetic; transcendentals are counted separately."""


def two_layers() -> Analysis:
    costs = {
        ("first", "dot_general"): Cost.macs_of("f32", 4 * 8 * 16),
        ("first", "tanh"): Cost.transcendental("f32", 4 * 16),
        ("second", "add"): Cost.arithmetic("f32", 92) + Cost.of("bytes_read", "f32", 2060),
        ("second/head", "dot_general"): Cost.macs_of("f32", 4 * 16 * 3),
        ("nothing", "copy"): Cost(),
    }
    rows = {Row(tuple(s.split("/")), "forward", p, "a.py:1"): cost for (s, p), cost in costs.items()}
    return Analysis(
        "two_layers",
        Cost.sum(rows.values()),
        inputs=(
            ("0/0", Operand((8, 16), "f32")),
            ("0/1", Operand((16, 3), "f32")),
            ("1/x", Operand((4, 8), "f32")),
        ),
        parameters={(("first",), "f32"): Size(128, 512), (("second", "head"), "f32"): Size(48, 192)},
        saved_rows=rows,
    )


def test_a_small_table_reads_as_it_should():
    assert plain(two_layers()) == GOLDEN
    assert str(two_layers()) == GOLDEN


def column(text: str, name: str, heading: str = "scope") -> dict[str, str]:
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == [heading])
    position = lines[start].replace("% ", "%").split().index(name)
    found = {}
    for line in lines[start + 2 :]:
        cells = [cell.strip() for cell in line.strip().split("  ") if cell.strip()]
        if not line.strip():
            continue
        found[cells[0]] = cells[position]
        if cells[0] == "total":
            break
    return found


def test_parents_equal_the_sum_of_their_lines():
    names = st.lists(st.sampled_from("abc"), min_size=0, max_size=4).map(tuple)

    @given(st.dictionaries(names, st.integers(0, 10**6), min_size=1), st.integers(1, 5))
    def check(scopes, depth):
        rows = {Row(s, "forward", "add", ""): Cost.arithmetic("f32", n) for s, n in scopes.items()}
        analysis = Analysis("any", Cost.sum(rows.values()), saved_rows=rows)
        shown = table(analysis, depth=depth)
        # One line's FLOPs, exactly: those of its scope path.
        exact = {"/".join(s[:d]): 0 for s in scopes for d in range(len(s) + 1)}
        for s, n in scopes.items():
            for d in range(len(s) + 1):
                exact["/".join(s[:d])] += n
        path: list[str] = []
        sums: dict[str, int] = {}
        for line in shown.lines:
            path = path[: line.depth]
            own = line.label.startswith("(")
            cost = scopes[tuple(path)] if own else exact["/".join([*path, line.label])]
            sums["/".join(path)] = sums.get("/".join(path), 0) + cost
            path.append(line.label)
        assert all(sums[p] == exact[p] for p in sums)
        assert sums or not analysis.total

    check()


@pytest.mark.parametrize("by", [by for by in BY if by != "module"])  # a record has no modules
def test_every_table_ends_in_the_total(by):
    lines = plain(render(two_layers(), by=by)).splitlines()
    assert any(line.split()[:2] == ["total", "704"] for line in lines)


def test_a_table_by_module_has_the_classes_shapes_and_parameters_of_the_modules():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            hidden = jnp.tanh(linen.Dense(32)(x))
            return linen.Dense(4)(hidden)

    lines = plain(render(costax.analyze(Net())(costax.spec("f32[8,16]")), by="module")).splitlines()
    rows = [line.split() for line in lines if "Dense" in line]
    assert [row[:4] for row in rows] == [["Dense_0", "Dense", "[8,", "32]"], ["Dense_1", "Dense", "[8,", "4]"]]
    # Each Dense adds a bias to its product: 8 * 32 * (2 * 16 + 1) and 8 * 4 * (2 * 32 + 1) FLOPs.
    assert {"544", "8.45", "4.1"} <= set(rows[0])
    assert {"132", "2.08", "1.02"} <= set(rows[1])
    assert any({"total", "676", "5.12", "10.5"} <= set(line.split()) for line in lines)


def test_the_class_and_the_output_of_a_layer_stand_beside_it():
    linen = pytest.importorskip("flax.linen")

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.LayerNorm()(linen.Dense(16)(x))

    class Stack(linen.Module):
        @linen.compact
        def __call__(self, x):
            for i in range(3):
                x = Block(name=f"block_{i}")(x)
            return x

    analysis = costax.analyze(Stack())(costax.spec("f32[8,16]"))
    shown = table(analysis, columns=("type", "output"))
    assert shown.columns[:2] == ("type", "output")
    # The three equal blocks share a line, and so do the layers in them.
    cells = {line.label: line.cells[:2] for line in shown.lines}
    assert cells["block_0..2 x 3"] == ("Block", "[8, 16]")
    assert cells["Dense_0"] == ("Dense", "[8, 16]")
    assert cells["LayerNorm_0"] == ("LayerNorm", "[8, 16]")
    assert all(line.cells[:2] == ("", "") for line in shown.lines if line.label.startswith("("))
    assert len({len(line.cells) for line in (*shown.lines, shown.total)}) == 1
    # Without the columns the table is the same but for them.
    assert [line.cells[2:] for line in shown.lines] == [line.cells for line in table(analysis).lines]
    assert table(analysis, columns=("output",), merge=False).lines[0].cells[0] in ("", "[8, 16]")


def test_wrong_columns_are_one_message():
    analysis = two_layers()
    with pytest.raises(InputError, match="columns must be one of type, output, got 'shape'"):
        table(analysis, columns=("shape",))
    with pytest.raises(InputError, match="A table by primitive has no column 'type'"):
        table(analysis, "primitive", columns=("type",))
    with pytest.raises(InputError, match="are not known"):
        table(analysis, columns=("type",))


def test_sorting_orders_siblings():
    assert [x.label for x in table(two_layers(), "primitive", sort="name").lines] == ["add", "dot_general", "tanh"]
    assert table(two_layers(), "primitive", sort="transcendentals").lines[0].label == "tanh"
    assert [x.label for x in table(two_layers(), sort="name").lines] == ["first", "second", "(own)", "head"]
    assert [x.label for x in table(two_layers(), depth=1, sort="params").lines] == ["first", "second"]


def test_the_options_of_the_command_line_are_those_of_the_tables():
    command = table_options(lambda: None)
    choices = {p.name: p.type for p in command.__click_params__}
    assert tuple(choices["by"].choices) == BY
    assert tuple(choices["sort"].choices) == SORT_KEYS


@pytest.mark.parametrize(("by", "sort"), [("layer", None), ("scope", "speed"), ("dtype", "params")])
def test_an_unknown_table_is_an_error_that_lists_the_known(by, sort):
    with pytest.raises(InputError, match="must be one of "):
        render(two_layers(), by=by, sort=sort)


def test_depth_cuts_and_says_so():
    text = plain(render(two_layers(), depth=1))
    assert "head" not in text
    assert "Scopes are cut at depth 1 of 2; depth=2 shows all." in text


def test_a_deep_model_is_cut_to_a_readable_length():
    rows = {
        Row((f"layer{i}", f"part{j}"), "forward", "add", ""): Cost.arithmetic("f32", 1)
        for i in range(100)
        for j in range(10)
    }
    analysis = Analysis("deep", Cost.sum(rows.values()), saved_rows=rows)
    assert len(table(analysis, merge=False).lines) == 100
    assert len(table(analysis, depth=2, merge=False).lines) == 1100


def test_scopes_may_nest_deeper_than_python_calls():
    nested = tuple(f"level_{i}" for i in range(2000))
    cost = Cost.arithmetic("f32", 7)
    analysis = Analysis("deep", cost, saved_rows={Row(nested, "forward", "add", ""): cost})
    assert table(analysis, sort="flops").full_depth == len(nested)


def test_scopes_without_work_are_left_out():
    assert "nothing" not in plain(two_layers())


def test_what_is_missing_is_said():
    analysis = Analysis(
        "f",
        Cost.macs_of("f32", 1000, padding=200),
        unknowns=(Unknown("solver/while", "ode.py:31", 1, False), Unknown("fit/while", "fit.py:5", 40, True)),
        uncounted=(Missing("io_callback", "train.py:88", "f32[]", "", "", count=2, reason="runs Python"),),
        dead_part=lambda: Cost.macs_of("f32", 3) + Cost.integer("i32", 7),
        devices=8,
        per_device=Cost.macs_of("f32", 125),
        saved_rows={Row((), "forward", "dot_general", ""): Cost.macs_of("f32", 1000, padding=200)},
    )
    text = plain(analysis)
    for sentence in (
        "200 of the MACs multiply padding.",
        "Numbers are for all 8 devices together; for one device: 125 MAC, 250 FLOP.",
        "Not counted: 2 x io_callback (train.py:88): it runs Python.",
        "Unknown trip count, counted once: solver/while (ode.py:31); set it with trips={'solver/while': N}.",
        "fit/while (fit.py:5) runs 40 times, as set by trips.",
        "jit removes it as dead code: 3 MAC, 6 FLOP.",
    ):
        assert sentence in text
    assert column(text, "MACs") == {"(no scope)": "1 k", "total": "1 k"}


def test_integer_programs_show_ops():
    total = costax.analyze(lambda a, b: jnp.matmul(a, b, preferred_element_type="int32"))(
        costax.spec("i8[4,8]"), costax.spec("i8[8,3]")
    )
    text = plain(total)
    assert column(text, "OPs")["total"] == str(2 * 4 * 8 * 3)
    assert column(text, "%OPs")["total"] == "100.0"


def test_a_program_without_any_work_has_a_table():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "total" in plain(costax.analyze(lambda x: x)(costax.spec("f32[4]")))


def test_markup_in_names_stays_text():
    rows = {Row(("[red]x[/red]", "日本"), "forward", "add", ""): Cost.arithmetic("f32", 1)}
    text = plain(Analysis("[bold]f", Cost.arithmetic("f32", 1), saved_rows=rows))
    assert text.startswith("[bold]f: 1 FLOP.\n")
    assert "[red]x[/red]" in text
    assert "日本" in text


def test_tables_are_readable_at_80_columns():
    from rich.console import Console

    analysis = costax.analyze(jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w))), params_argnums=0)(
        costax.spec("f32[4096,4096]"), costax.spec("f32[4096,4096]")
    )
    console = Console(width=80, color_system=None)
    for by in BY:
        with console.capture() as capture:
            console.print(render(analysis, by=by))
        assert max(map(len, capture.get().splitlines())) <= 80
        assert "…" not in capture.get()
        assert column(capture.get(), "MACs", by)["total"] == "137 G"


def test_places_are_shown_as_people_say_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert short_place(f"{tmp_path}/a/b.py:3") == "a/b.py:3"
    assert short_place("/x/lib/python3.11/site-packages/flax/linen/linear.py:7") == "flax/linen/linear.py:7"
    assert short_place(f"/elsewhere{tmp_path}/b.py:3") == f"/elsewhere{tmp_path}/b.py:3"
    assert short_place("") == ""


def test_modules_have_their_class_and_output_in_every_library():
    from flax import linen, nnx

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3, name="head")(linen.Dense(16, name="body")(x))

    model = nnx.eval_shape(
        lambda: nnx.Sequential(nnx.Linear(8, 16, rngs=nnx.Rngs(0)), nnx.Linear(16, 3, rngs=nnx.Rngs(0)))
    )
    for target, kind in ((Net(), "Dense"), (model, "Linear")):
        shown = table(costax.analyze(target)(costax.spec("f32[5,8]")), "module")
        cells = [line.cells[:3] for line in shown.lines if line.cells[0] == kind]
        assert cells == [(kind, "[5, 16]", "640"), (kind, "[5, 3]", "240")]


def test_a_record_has_no_modules(tmp_path):
    two_layers().save(tmp_path / "x.json")
    with pytest.raises(InputError, match="modules"):
        table(costax.load(tmp_path / "x.json"), "module")


def test_shares_that_depend_on_symbols_have_no_column():
    def attention(q, k, v):
        return jax.nn.softmax(q @ k.T) @ v

    formulas = costax.analyze(attention)("f32[s,d]", "f32[s,d]", "f32[s,d]")
    shown = formulas.table(by="primitive")
    assert shown.columns == ("MACs", "FLOPs", "transc.", "traffic")
    assert {len(line.cells) for line in (*shown.lines, shown.total)} == {len(shown.columns)}
    # dot_general: two products of s x s x d, over all FLOPs, which have terms in s^2 too.
    assert shown.lines[0].cells[0] == "2*d*s^2"
    assert "%" not in repr(shown)
    assert "depends on the symbols" in plain(render(formulas, by="primitive"))
    # One scope has all of it, whatever the sizes are; and numbers have shares.
    assert formulas.table().columns[-1] == "% FLOPs"
    assert "depends on the symbols" not in plain(render(formulas))
    numbers = formulas.evaluate(s=64, d=8)
    assert numbers.table(by="primitive").columns[-1] == "% FLOPs"
    flops = 2 * 2 * 64 * 64 * 8
    share = f"{100 * flops / numbers.flops:.1f}"
    assert numbers.table(by="primitive").lines[0].cells[-1] == share
    assert f"{share}%" in repr(numbers.table(by="primitive"))


def test_a_column_that_ends_in_a_period_ends_the_sentence_too(monkeypatch):
    monkeypatch.setenv("COLUMNS", "46")
    (sentence,) = (line for line in str(two_layers()).splitlines() if line.endswith("transc."))
    assert not sentence.endswith("..")
