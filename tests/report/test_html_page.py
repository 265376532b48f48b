"""The HTML report in a browser: it opens offline, its controls work, and it says nothing on the console."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import xml.etree.ElementTree
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import costax
from costax import report
from costax.analysis.analysis import Analysis
from costax.core.cost import Cost
from costax.core.size import Size
from costax.program.tree import Row

# One process of pytest-xdist runs all of them: they share the page and the browser.
pytestmark = pytest.mark.xdist_group("HTML page")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_skipped = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: apt-get install chromium (Debian)")


def needs_browser(test):
    """Mark a test that opens the page."""
    return pytest.mark.browser(_skipped(test))


MOST_BYTES = 6_000_000


def step(w, x):
    def loss(w, x):
        for i in range(3):
            with jax.named_scope(f"block_{i}"):
                with jax.named_scope("attention"):
                    x = jax.nn.softmax(x @ w[i])
                with jax.named_scope("mlp"):
                    x = jnp.tanh(x @ w[i])
        return jnp.sum(x)

    return jax.tree.map(lambda p, g: p - 0.1 * g, w, jax.grad(loss)(w, x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The page of a comparison, with everything that a page may hold but formulas."""
    path = tmp_path_factory.mktemp("page") / "step.html"
    found = costax.compare(step, params_argnums=0)([costax.spec("f32[64,64]")] * 3, costax.spec("f32[32,64]"))
    found.save(path)
    return path


def held(path: Path) -> dict:
    text = re.search(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    return json.loads(text)


def test_the_page_is_one_file_that_names_no_other(saved):
    assert saved.stat().st_size < MOST_BYTES
    page = saved.read_text()
    assert "default-src 'none'" in page
    head, _, body = page.partition("<body>")
    for tag in re.findall(r"<(?:script|link|img|iframe)[^>]*>", head + body[:20_000]):
        assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:|//)", tag), tag


def test_the_numbers_of_the_page_are_those_of_the_analysis(saved):
    data = held(saved)
    found = costax.compare(step, params_argnums=0)([costax.spec("f32[64,64]")] * 3, costax.spec("f32[32,64]"))
    total = found.jaxpr.total
    for tree in data["trees"].values():
        assert tree["t"][:2] == [total.flops, total.macs]
    cards = {card["label"]: card.get("amount") for card in data["cards"]}
    assert cards["MACs"] == total.macs
    assert cards["parameters"] == 3 * 64 * 64
    assert data["memory"]["framework"]["peak"] == found.jaxpr.peak_bytes
    assert max(nbytes for _, nbytes, *_ in data["memory"]["framework"]["timeline"]) == found.jaxpr.peak_bytes
    bars = data["waterfall"]
    assert bars[0]["flops"] + sum(bar["flops"] for bar in bars if not bar["sum"]) == bars[-1]["flops"]
    # One bar for each run of a pass that changed FLOPs or transcendentals.
    runs = {(delta.pass_name, delta.run) for delta in found.deltas if delta.pass_name}
    assert runs
    assert sum(any(bar["label"].startswith(name) for name, _ in runs) for bar in bars) == len(runs)
    for device in data["devices"].values():
        in_layers = sum(part["seconds"] for part in device["parts"])
        assert device["range"][0] <= in_layers * 1.5
        assert in_layers <= device["range"][2]


def test_parents_equal_their_children_on_the_page(saved):
    def check(node):
        children = node.get("c", [])
        for i, amount in enumerate(node["t"]):
            if children:
                assert amount == pytest.approx(sum(child["t"][i] for child in children), rel=1e-9)
        for child in children:
            check(child)

    for tree in held(saved)["trees"].values():
        check(tree)


def test_equal_layers_share_a_line_on_the_page_too(saved):
    def names(node):
        return [node["n"], *(name for child in node.get("c", []) for name in names(child))]

    data = held(saved)
    assert "block_1..2 x 2" in names(data["trees"]["merged"])
    assert "block_2" in names(data["trees"]["full"])


def test_names_cannot_end_the_data(tmp_path):
    cost = Cost.arithmetic("f32", 7)
    rows = {Row(("</script><b>",), "forward", "add", ""): cost}
    Analysis("<script>alert(1)</script>", cost, saved_rows=rows).save(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "<script>alert" not in page
    assert held(tmp_path / "a.html")["trees"]["full"]["c"][0]["n"] == "</script><b>"


def test_the_page_is_small_and_draws_everything_itself(tmp_path):
    """A library for charts took 4.8 MB of each page."""
    Analysis("f", Cost()).save(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert len(page) < 100_000
    assert "plotly" not in page.lower()


@needs_browser
def test_a_mark_of_the_roofline_is_where_its_numbers_are(saved, visit):
    """The place of each mark, read back from its pixels by the ticks beside it, is FLOP/s and FLOPs per byte."""
    page = visit(saved)
    device = held(saved)["devices"]["h100-sxm"]
    parts = [part for part in device["parts"] if part["flops"] and part["bytes"] and part["seconds"]]
    marks = page.eval_on_selector_all(
        "#roofline .point",
        "marks => marks.map(mark => { const box = mark.getBBox(); "
        "return [mark.ariaLabel, box.x + box.width / 2, box.y + box.height / 2]; })",
    )
    assert len(marks) == len(parts)
    labels = [label for label, _, _ in marks]
    for (label, x, y), (other, u, v) in itertools.pairwise(marks):
        (a, b), (c, d) = (numbers_of(text) for text in (label, other))
        assert (x < u) == (a < c) or a == pytest.approx(c, rel=0.01)
        assert (y > v) == (b < d) or b == pytest.approx(d, rel=0.01)
    assert all("bound by" in label for label in labels)


@needs_browser
def test_the_marks_of_the_roofline_are_one_stop_of_tab_and_arrow_keys_walk_them(saved, visit):
    page = visit(saved)
    marks = page.locator("#roofline .point")
    assert marks.count() > 2
    assert page.locator("#roofline .point[tabindex='0']").count() == 1
    page.focus("#roofline .point[tabindex='0']")
    seen = []
    for _ in range(marks.count()):
        seen.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert page.inner_text("#tip").splitlines()[0] == seen[-1].partition(",")[0]
        page.keyboard.press("ArrowRight")
    intensities = [numbers_of(label)[0] for label in seen]
    assert intensities == pytest.approx(sorted(intensities), rel=0.01)
    assert sorted(seen) == sorted(page.eval_on_selector_all("#roofline .point", "all => all.map(x => x.ariaLabel)"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.point')") is None


def numbers_of(label):
    """FLOPs per byte and FLOP/s in the label of a mark."""
    found = re.search(r"([\d.]+) ?(\w?) FLOP/B, ([\d.]+) ?(\w?)FLOP/s", label)
    scale = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    return float(found[1]) * scale[found[2]], float(found[3]) * scale[found[4]]


@needs_browser
def test_the_memory_is_read_step_by_step_with_the_keyboard(saved, visit):
    page = visit(saved)
    timeline = held(saved)["memory"][page.input_value("#account")]["timeline"]
    chart = page.locator("#memory-chart [role=slider]")
    chart.press("End")
    assert f"step {timeline[-1][0]}: {timeline[-1][3]}" in page.inner_text("#tip")
    chart.press("Home")
    chart.press("ArrowRight")
    assert f"step {timeline[1][0]}: {timeline[1][3]}" in page.inner_text("#tip")
    assert chart.get_attribute("aria-valuenow") == "1"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    with playwright.sync_playwright() as driver:
        # The profile is thrown away; the sandbox of Chromium does not start for root, as CI runs.
        opened = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Open a page; at the end nothing was said on the console, and nothing but the page was asked for."""
    said: list[str] = []
    asked: list[str] = []
    pages = []

    def opened(path: Path, link: str = "", **options):
        page = browser.new_page(viewport={"width": 1200, "height": 900}, **options)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + link)
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield opened
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def rows(page, table: str = "layers") -> list[list[str]]:
    return page.eval_on_selector_all(
        f"#{table} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )


def names(page) -> list[str]:
    return [cells[0].lstrip("▸▾").strip() for cells in rows(page)]


@needs_browser
def test_the_page_of_a_module_works(visit, tmp_path):
    def layer(c, w):
        with jax.named_scope("mlp"):
            return jnp.tanh(c @ w), None

    shapes = jax.ShapeDtypeStruct((8, 16), "float32"), jax.ShapeDtypeStruct((3, 16, 16), "float32")
    module = costax.analyze(jax.jit(lambda x, w: jax.lax.scan(layer, x, w)[0]).lower(*shapes).compile())()
    module.save(tmp_path / "module.html")
    page = visit(tmp_path / "module.html")
    assert "mlp" in names(page)
    page.select_option("#by", "source")
    assert any("test_html_page.py" in cells[0] for cells in rows(page, "others"))
    assert page.input_value("#account") == "fused"
    assert rows(page, "alive")


@needs_browser
def test_layers_fold_search_and_sort(saved, visit):
    page = visit(saved)
    page.click("#fold")
    folded = names(page)
    page.click("#unfold")
    assert len(names(page)) > len(folded)
    page.fill("#search", "mlp")
    assert set(names(page)) >= {"mlp"}
    assert "attention" not in names(page)
    assert "match" in page.inner_text("#matches")
    page.fill("#search", "")
    page.click("#fold")
    page.click("#layers thead th:nth-child(2) button")
    cells = (f"#layers tbody tr:nth-child({i + 1}) td:nth-child(2)" for i in range(len(folded)))
    flops = [page.get_attribute(cell, "title") for cell in cells]
    numbers = [int(text.replace(",", "")) for text in flops]
    assert numbers == sorted(numbers, reverse=True)
    assert page.get_attribute("#layers thead th:nth-child(2)", "aria-sort") == "descending"


@needs_browser
def test_the_keyboard_alone_will_do(saved, visit):
    page = visit(saved)
    page.click("#fold")
    before = len(rows(page))
    page.focus("#layers tbody .twist[aria-expanded]")
    page.keyboard.press("Enter")
    assert len(rows(page)) > before
    # The focus stays where it was, so that the next key folds again.
    page.keyboard.press("Enter")
    assert len(rows(page)) == before
    page.focus("#theme")
    theme = page.get_attribute("html", "data-theme")
    page.keyboard.press("Enter")
    assert page.get_attribute("html", "data-theme") != theme


def shown(page) -> str:
    return page.inner_text("#status")


@needs_browser
def test_the_icicle_zooms_and_changes_its_weight(saved, visit):
    page = visit(saved)
    whole = page.locator("#icicle .slice").count()
    assert whole >= 5
    page.locator("#icicle .slice", has_text="attention").first.click()
    page.wait_for_function("() => document.getElementById('status').innerText.includes('attention')")
    for _ in range(3):
        page.click("#out")
    assert "attention" not in shown(page)
    page.select_option("#weight", label="params")
    assert shown(page) == "Weight: params"
    assert page.inner_text("#share") == "% params"
    page.wait_for_function("() => document.querySelector('#icicle').textContent.includes('12.3 k')")
    page.uncheck("#merge")
    page.click("#unfold")
    assert "block_2" in names(page)
    page.click("#layers tbody tr[data-path='block_2'] button[title]")
    assert shown(page) == "Icicle shows block_2"


@needs_browser
def test_the_device_changes_the_roofline_and_the_seconds(saved, visit):
    page = visit(saved)
    first, time = page.inner_text("#predicted"), page.inner_text("#layers tfoot td:nth-child(8)")
    assert "H100" in first
    page.select_option("#device", "tpu-v5e")
    assert "v5e" in page.inner_text("#predicted")
    assert page.inner_text("#layers tfoot td:nth-child(8)") != time
    assert page.locator("#roofline .point").count() > 3


@needs_browser
def test_a_bar_of_the_waterfall_shows_the_differences_behind_it(saved, visit):
    page = visit(saved)
    steps = page.eval_on_selector_all("#step option", "options => options.map(option => option.value)")
    page.select_option("#step", steps[-1])
    before = rows(page, "deltas")
    page.select_option("#step", steps[0])
    assert rows(page, "deltas") != before
    assert page.locator("#waterfall .point").count() == len(held(saved)["waterfall"])
    page.select_option("#quantity", "transcendentals")
    page.wait_for_function("() => document.querySelector('#waterfall').textContent.includes('transcendentals')")


@needs_browser
def test_the_memory_timeline_has_two_accounts(saved, visit):
    page = visit(saved)
    fused = page.inner_text("#peak")
    assert len(rows(page, "alive")) > 3
    page.select_option("#account", "framework")
    assert page.inner_text("#peak") != fused


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_systems_colours(saved, visit, scheme):
    page = visit(saved, color_scheme=scheme)
    assert page.get_attribute("html", "data-theme") == scheme
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


@needs_browser
def test_a_record_alone_makes_a_smaller_page(saved, visit, tmp_path):
    rows_ = {Row(("a", f"b{i}"), "forward", "dot_general", "f.py:1"): Cost.macs_of("f32", 10 + i) for i in range(3)}
    analysis = Analysis("kept", Cost.sum(rows_.values()), parameters={(("a",), "f32"): Size(3, 12)}, saved_rows=rows_)
    analysis.save(tmp_path / "a.json")
    report.save(report.load_any(tmp_path / "a.json"), tmp_path / "a.html")
    page = visit(tmp_path / "a.html")
    assert page.locator("#roofline").count() == 0
    assert names(page)[0] == "a"


@needs_browser
def test_a_slider_recomputes_every_number(visit, tmp_path):
    from costax.report.html.data import contents
    from costax.report.html.page import page

    rows_ = {Row(("net", name), "forward", "dot_general", ""): Cost.macs_of("f32", 8) for name in ("a", "b")}
    analysis = Analysis("net", Cost.sum(rows_.values()), saved_rows=rows_)
    data = contents(analysis)
    # What an analysis with symbols holds in place of numbers; the values are worked out here, not there.
    formulas = {"a": "55296*b*s^2 + 370596096*b*s", "b": "1/2*s^2 - 1/2*s + floordiv(s + 7, 8)*max(b, 4)"}

    def amounts(b: int, s: int) -> dict[str, int]:
        return {"a": 55296 * b * s**2 + 370596096 * b * s, "b": (s**2 - s) // 2 + (s + 7) // 8 * max(b, 4)}

    for tree in data["trees"].values():
        total = f"{formulas['a']} + {formulas['b']}"
        tree["t"][0] = tree["c"][0]["t"][0] = total
        for child in tree["c"][0]["c"]:
            child["t"][0] = formulas[child["n"]]
    data["cards"][1]["amount"] = total
    data["symbols"] = [{"name": "b", "least": 1, "value": 8}, {"name": "s", "least": 1, "value": 1024}]
    data["formulas"] = [{"name": "FLOPs", "format": "count", "formula": total}]
    (tmp_path / "f.html").write_text(page(analysis, data))
    opened = visit(tmp_path / "f.html")

    def flops(name: str) -> int:
        text = opened.get_attribute(f"#layers tr[data-path='net/{name}'] td:nth-child(2)", "title")
        return int(text.replace(",", ""))

    assert {name: flops(name) for name in "ab"} == amounts(8, 1024)
    opened.fill("#number-s", "2048")
    opened.press("#number-s", "Enter")
    opened.fill("#number-b", "3")
    opened.press("#number-b", "Enter")
    assert {name: flops(name) for name in "ab"} == amounts(3, 2048)
    whole = sum(amounts(3, 2048).values())
    assert f"{whole:,}" in opened.inner_text("#cards")
    before = opened.inner_text("#formulas tbody")
    opened.focus("#slide-s")
    opened.keyboard.press("ArrowLeft")
    assert opened.inner_text("#formulas tbody") != before


@needs_browser
def test_the_page_of_formulas_says_what_evaluate_says(visit, tmp_path):
    def net(w, x):
        with jax.named_scope("net"):
            return jax.nn.softmax(x @ w @ x.swapaxes(1, 2))

    analysis = costax.analyze(net, params_argnums=0)(costax.spec("f32[16,16]"), costax.spec("f32[b,s,16]"))
    analysis.save(tmp_path / "f.html")
    page = visit(tmp_path / "f.html")
    for b, s in ((64, 64), (3, 2048)):
        page.fill("#number-b", str(b))
        page.press("#number-b", "Enter")
        page.fill("#number-s", str(s))
        page.press("#number-s", "Enter")
        total = analysis.evaluate(b=b, s=s).total
        shown_ = [page.get_attribute(f"#layers tbody tr:first-child td:nth-child({i})", "title") for i in (2, 3, 4)]
        assert shown_ == [f"{count:,}" for count in (total.flops, total.macs, total.transcendentals)]


@pytest.fixture(scope="module")
def with_symbols(tmp_path_factory) -> tuple[Path, Analysis]:
    """The page of a program with symbols, with a loop whose body needs most at another step for other sizes."""

    def net(w, x):
        def body(c, _):
            with jax.named_scope("attention"):
                scores = jax.nn.softmax(c @ c.swapaxes(1, 2))
            with jax.named_scope("mlp"):
                return jnp.tanh(scores @ c @ w) @ w.T, None

        return jax.lax.scan(body, x, length=3)[0].sum()

    path = tmp_path_factory.mktemp("symbols") / "net.html"
    analysis = costax.analyze(net, params_argnums=0)(costax.spec("f32[16,64]"), costax.spec("f32[b,s,16]"))
    analysis.save(path)
    return path, analysis


# The texts of a page with the colour of the letters and that of what is behind them.
_TEXTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const solid = (text) => text && text !== "none" && text !== "transparent" && (rgb(text)[3] ?? 1) === 1;
  const behind = (node) => {
    const rect = node.closest && node.closest("g.slice, g.point");
    if (rect && node.tagName === "text") return getComputedStyle(rect.querySelector("rect")).fill;
    for (let up = node; up; up = up.parentElement) {
      const back = getComputedStyle(up).backgroundColor;
      if (solid(back)) return back;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *:not(script):not(style)")]
    .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()))
    .filter((node) => node.getClientRects().length && !node.closest("option, .hidden"))
    .map((node) => {
      const style = getComputedStyle(node);
      const ink = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
      return [node.textContent.trim().slice(0, 40), rgb(ink).slice(0, 3), rgb(behind(node)).slice(0, 3)];
    });
}"""


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast of two colours by WCAG 2.2: from 1 for equal ones to 21 for black and white."""

    def luminance(colour: list[float]) -> float:
        parts = [x / 255 for x in colour]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return sum(share * x for share, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_of_colours_is_that_of_the_standard():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    # Grey #767676 on white is the example at the limit of 4.5 in the guides to WCAG.
    assert contrast([0x76] * 3, [255] * 3) == pytest.approx(4.54, abs=0.01)


@needs_browser
def test_every_text_has_a_contrast_of_4_5_in_both_themes(saved, with_symbols, visit):
    for path in (saved, with_symbols[0]):
        page = visit(path)
        page.click("#unfold")
        ways = page.eval_on_selector_all("#colour option", "all => all.map((each) => each.value)")
        for scheme, way in itertools.product(("light", "dark"), ways):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_selector(f"html[data-theme={scheme}]")
            page.select_option("#colour", way)
            page.focus("#icicle .slice[tabindex='0']")
            texts = page.evaluate(_TEXTS)
            assert len(texts) > 60
            faint = {text: (ink, back) for text, ink, back in texts if contrast(ink, back) < 4.5}
            assert faint == {}
        # A negative control: the test sees a box whose text is too faint.
        page.eval_on_selector("#icicle .slice text", "text => text.setAttribute('fill', '#cc8800')")
        page.eval_on_selector("#icicle .slice rect", "rect => rect.setAttribute('fill', '#E69F00')")
        assert any(contrast(ink, back) < 4.5 for _, ink, back in page.evaluate(_TEXTS))


@needs_browser
def test_nothing_is_cut_at_the_right_edge(saved, with_symbols, visit):
    outside = """() => [...document.querySelectorAll("body *:not(script):not(style)")]
      .filter((node) => node.getClientRects().length && !node.closest(".hidden, #tip, .stack thead"))
      .filter((node) => node.getBoundingClientRect().right > window.innerWidth + 1)
      .map((node) => node.outerHTML.slice(0, 90))"""
    scrolled = """() => [...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1)
      .map((box) => box.getAttribute("aria-label"))"""
    # The text of a box of the icicle stays in it.
    over = """() => [...document.querySelectorAll("#icicle .slice text")].filter((text) =>
      text.getBBox().x + text.getBBox().width > text.parentNode.querySelector("rect").getBBox().x
        + text.parentNode.querySelector("rect").getBBox().width + 1).map((text) => text.textContent)"""
    for path in (saved, with_symbols[0]):
        page = visit(path)
        page.click("#unfold")
        for width in (1440, 768, 390):
            page.set_viewport_size({"width": width, "height": 900})
            # The pictures are drawn again in the next frame.
            page.wait_for_function("width => document.querySelector('#icicle svg').clientWidth <= width", arg=width)
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(outside) == []
            assert page.evaluate(scrolled) == []
            assert page.evaluate(over) == []


@needs_browser
def test_the_colour_of_a_layer_says_what_bounds_it(saved, visit):
    page = visit(saved)
    data = held(saved)
    analysis = costax.compare(step, params_argnums=0)([costax.spec("f32[64,64]")] * 3, costax.spec("f32[32,64]")).jaxpr
    bounds: dict[str, float] = {}
    for part in costax.predict(analysis, device="h100-sxm").parts:
        if "mlp" in part.kernel.scope and "block_0" in part.kernel.scope:
            bounds[part.timing.bound] = bounds.get(part.timing.bound, 0.0) + part.seconds
    most = max(bounds, key=bounds.get)
    share = round(100 * bounds[most] / sum(bounds.values()))
    label = page.get_attribute("#icicle .slice[aria-label^='block_0/mlp']", "aria-label")
    assert label.endswith(f"{share} % of its time bound by {most}")
    keys = page.eval_on_selector_all(
        "#icicle-key .key", "keys => keys.map(key => [key.innerText, getComputedStyle(key.firstChild).backgroundColor])"
    )
    fill = page.eval_on_selector(
        "#icicle .slice[aria-label^='block_0/mlp'] rect", "rect => getComputedStyle(rect).fill"
    )
    assert [most, fill] in keys
    # The same as in a plot, whichever bounds the program has.
    assert fill == {"memory": "rgb(230, 159, 0)", "matmul unit": "rgb(0, 114, 178)"}[most]
    page.select_option("#colour", "direction")
    used = {text.strip() for text in page.inner_text("#icicle-key").splitlines()}
    assert used <= {*data["directions"], "no operations"}
    assert used & {"forward", "backward"}


@needs_browser
def test_the_arrow_keys_walk_the_icicle_and_enter_zooms(saved, visit):
    page = visit(saved)
    page.focus("#icicle .slice[tabindex='0']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    where = page.evaluate("document.activeElement.getAttribute('aria-label')").partition(",")[0]
    assert "block" in where
    assert where.split("/")[-1] in page.inner_text("#tip")
    page.keyboard.press("Enter")
    assert shown(page) == f"Icicle shows {where}"
    # The zoomed layer has the focus, and the layers around it stand above the picture.
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(where)
    page.click("#icicle .around button")
    assert page.locator("#icicle .around button").count() == 0


@needs_browser
def test_the_waterfall_has_a_labelled_row_for_each_step(saved, visit):
    page = visit(saved)
    bars = held(saved)["waterfall"]
    texts = page.eval_on_selector_all(
        "#waterfall .point", "rows => rows.map(row => [...row.querySelectorAll('text')].map(text => text.textContent))"
    )
    assert [" ".join(lines[:-1]) for lines in texts] == [bar["label"] for bar in bars]
    for bar, (*_, number) in zip(bars, texts, strict=True):
        if bar["sum"]:
            assert number == f"{bar['flops']:,}"
        elif bar["flops"]:
            assert number[0] == "+-"[bar["flops"] < 0]
    # A bar reaches from the count before it to the count after it, on one scale for all.
    sizes = page.eval_on_selector_all(
        "#waterfall .step", "rows => rows.map(row => Number(row.querySelectorAll('rect')[1].getAttribute('width')))"
    )
    flops = [abs(bar["flops"]) for bar in bars if not bar["sum"]]
    largest = max(range(len(flops)), key=lambda i: flops[i])
    for size, count in zip(sizes, flops, strict=True):
        assert size == pytest.approx(max(3, sizes[largest] * count / flops[largest]), rel=0.01)
    page.focus("#waterfall .step")
    page.keyboard.press("Enter")
    assert page.get_attribute("#waterfall .step", "aria-pressed") == "true"


@needs_browser
def test_a_link_restores_what_the_page_shows(saved, visit):
    page = visit(saved)
    page.uncheck("#merge")
    page.select_option("#weight", label="traffic")
    page.select_option("#device", "tpu-v5e")
    page.select_option("#colour", "direction")
    page.locator("#icicle .slice[aria-label^='block_1/attention']").click()
    link = page.evaluate("location.hash")
    # A link to a section does not replace them.
    page.click("nav a >> text=Memory")
    assert page.evaluate("location.hash") == link
    again = visit(saved, link)
    assert again.evaluate("document.getElementById('weight').selectedOptions[0].text") == "traffic"
    assert [again.input_value(f"#{name}") for name in ("device", "colour")] == ["tpu-v5e", "direction"]
    assert not again.is_checked("#merge")
    assert again.inner_text("#icicle .around b") == "attention"
    assert again.inner_text("#cards") == page.inner_text("#cards")
    # What a page does not have is left out of account.
    hostile = visit(saved, "#zoom=<img src=x onerror=alert(1)>&weight=none&device=__proto__&at.b=1")
    assert hostile.locator("#icicle .around button").count() == 0
    assert hostile.input_value("#device") == "h100-sxm"
    assert hostile.locator("img").count() == 0


_PICTURES = {
    "icicle": "attention",
    "waterfall": "= XLA, compiled",
    "roofline": "FLOP/s, predicted",
    "memory-chart": "bytes alive",
}


@needs_browser
def test_a_picture_is_saved_as_svg_and_png(saved, visit, tmp_path):
    page = visit(saved)
    for picture, text in _PICTURES.items():
        for form in ("svg", "png"):
            with page.expect_download() as download:
                page.click(f"button[data-picture='{picture}'][data-format='{form}']")
            assert download.value.suggested_filename == f"step-costax-{picture}.{form}"
            download.value.save_as(tmp_path / f"x.{form}")
        tree = xml.etree.ElementTree.parse(tmp_path / "x.svg")
        assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert text in {"".join(each.itertext()) for each in tree.iter("{http://www.w3.org/2000/svg}text")}
        image = (tmp_path / "x.png").read_bytes()
        assert image.startswith(b"\x89PNG")
        width = int.from_bytes(image[16:20], "big")
        assert width == pytest.approx(2 * float(tree.getroot().get("width")), abs=2)


@needs_browser
def test_sliders_start_at_usual_sizes_and_drive_the_memory(with_symbols, visit):
    path, analysis = with_symbols
    page = visit(path)
    assert [page.input_value(f"#number-{name}") for name in "bs"] == ["8", "1024"]
    for b, s in ((8, 1024), (2, 16), (64, 512)):
        for name, size in (("b", b), ("s", s)):
            page.fill(f"#number-{name}", str(size))
            page.press(f"#number-{name}", "Enter")
        peak = analysis.evaluate(b=b, s=s).peak_bytes
        assert f"({peak:,} B)" in page.inner_text("#peak")
        assert f"{peak:,}" in page.inner_text("#cards")
        assert any(f"[{b},{s},16]" in cells[0] for cells in rows(page, "alive"))
    link = page.evaluate("location.hash")
    assert f"({peak:,} B)" in visit(path, link).inner_text("#peak")


def test_formulas_of_the_memory_hold_at_other_sizes(with_symbols):
    _, analysis = with_symbols
    timeline = analysis.memory_formulas.timeline()
    for b, s in ((1, 2), (8, 1024), (3, 17), (100, 8)):
        expected = [moment.nbytes for moment in analysis.evaluate(b=b, s=s).memory_timeline()]
        sizes = [m.nbytes if isinstance(m.nbytes, int) else m.nbytes(b=b, s=s) for m in timeline]
        assert sizes == expected


@needs_browser
def test_equal_arrays_share_a_line_and_no_byte_is_lost(saved, visit):
    page = visit(saved)
    page.select_option("#account", "framework")
    lines = rows(page, "alive")
    assert any(re.search(r" x \d+$", cells[0]) for cells in lines)
    listed = [
        int(text.replace(",", ""))
        for text in page.eval_on_selector_all("#alive tbody td:nth-child(2)", "cells => cells.map(cell => cell.title)")
    ]
    assert sum(listed) == sum(buffer["nbytes"] for buffer in held(saved)["memory"]["framework"]["alive"])
    assert listed == sorted(listed, reverse=True)


@needs_browser
def test_bytes_are_binary_on_the_whole_page(saved, with_symbols, visit):
    for path in (saved, with_symbols[0]):
        text = visit(path).inner_text("body")
        assert re.search(r"\d [KMG]iB\b", text)
        # Rates are decimal, as on data sheets, and so are the names of devices.
        assert re.findall(r"\d ?[kMGT]B\b(?!/s)", text.replace("80GB", "")) == []


def test_the_cards_are_few_and_none_is_zero(saved, tmp_path):
    labels = [card["label"] for card in held(saved)["cards"]]
    assert labels[:4] == ["FLOPs", "MACs", "parameters", "predicted time per call"]
    assert len(labels) == 6
    costax.analyze(jnp.sin)(costax.spec("f32[8]")).save(tmp_path / "sin.html")
    cards = held(tmp_path / "sin.html")["cards"]
    assert [card["label"] for card in cards][:2] == ["transcendentals", "predicted time per call"]
    assert all(card.get("amount", 1) for card in cards)


@needs_browser
def test_a_program_without_layers_has_no_empty_pictures(visit, tmp_path):
    costax.analyze(jnp.sin)(costax.spec("f32[8]")).save(tmp_path / "sin.html")
    page = visit(tmp_path / "sin.html")
    visible = [name for name in ("icicle", "roofline", "memory-chart") if page.is_visible(f"#{name}")]
    assert visible == []
    assert "names no layers" in page.inner_text("footer")
    assert page.inner_text("#others tbody td:last-child") == "100.0"


@needs_browser
def test_the_page_of_a_prediction_has_its_device_first(visit, tmp_path):
    shapes = [costax.spec("f32[64,64]")] * 3, costax.spec("f32[32,64]")
    prediction = costax.predict(costax.analyze(step)(*shapes), device="rtx4090")
    prediction.save(tmp_path / "p.html")
    page = visit(tmp_path / "p.html")
    assert page.input_value("#device") == "rtx4090"
    assert "RTX 4090" in page.inner_text("#cards")
    assert "per call (best" in page.inner_text(".hero")
    assert held(tmp_path / "p.html")["devices"]["rtx4090"]["range"][1] == prediction.range[1]
    page.select_option("#device", "tpu-v5e")
    assert "v5e" in page.inner_text("#cards")


def test_predictions_of_compiled_programs_have_pages_too(tmp_path):
    shapes = [costax.spec("f32[64,64]")] * 3, costax.spec("f32[32,64]")
    compared = costax.compare(step, passes=False)(*shapes)
    module = costax.analyze(jax.jit(step).lower(*shapes).compile())()
    for program in (compared, module):
        prediction = costax.predict(program, device="rtx4090")
        prediction.save(tmp_path / "p.html")
        devices = held(tmp_path / "p.html")["devices"]
        assert next(iter(devices)) == "rtx4090"
        assert devices["rtx4090"]["range"][1] == prediction.range[1]
