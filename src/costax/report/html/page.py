"""The HTML report: one self-contained file, which opens offline and makes no network request."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from costax.core.printable import printable
from costax.report import notes
from costax.report.headlines import headline
from costax.report.html.data import contents
from costax.report.shown import analysis_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from costax.hlo.module_analysis import ModuleAnalysis
    from costax.performance.prediction import Prediction
    from costax.report.shown import Shown

# The page may not load anything; its scripts and styles are inline.
POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


class Heading(NamedTuple):
    """The head of a page: the name of the program, its inputs and the versions; and the words that differ by kind.

    tables: what the lines of the tables count. estimates: the accounts of memory, by name.
    """

    name: str
    inputs: str
    versions: Mapping[str, str]
    headline: str = ""
    tables: Sequence[str] = ("primitive", "source", "dtype", "direction")
    estimates: Sequence[tuple[str, str]] = (("fused", "fused estimate"), ("framework", "framework peak"))


def module_as_html(module: ModuleAnalysis, prediction: Prediction | None = None, **_: Any) -> str:
    """Return the report of a module as one page."""
    from costax.analysis.compiled_module import CompiledModule, of_analysis
    from costax.report.html import module_data

    program = module if isinstance(module, CompiledModule) else of_analysis(module)
    heading = Heading(
        printable(program.name),
        module_data.inputs(program),
        program.versions,
        _hero(program.name, headline(program), headline(prediction) if prediction else ""),
        module_data.TABLES,
        (("fused", program.memory.source),),
    )
    return filled(_title(heading), _body(heading, data := module_data.contents(program, prediction)), data, "page.js")


def prediction_as_html(prediction: Prediction, **_: Any) -> str:
    """Return the report of the program of a prediction, with its device first."""
    from costax.analysis.compiled_module import ModuleCounts

    program: Any = prediction.analysis
    if isinstance(program, ModuleCounts):
        return module_as_html(program.module, prediction)
    return page(program, contents(program, prediction), headline(prediction))


def as_html(account: Shown, **_: Any) -> str:
    """Return the report of an analysis or a comparison as one page."""
    return page(account, contents(account))


def page(account: Shown, data: dict[str, Any], sentence: str = "") -> str:
    """Return the HTML of the page. data: the result of `contents`, possibly changed. sentence: after the headline."""
    analysis = analysis_of(account)
    hero = _hero(analysis.name, headline(account), sentence)
    heading = Heading(analysis.name, notes.inputs(analysis), analysis.versions, hero)
    return filled(_title(heading), _body(heading, data), data, "page.js")


def _hero(name: str, *sentences: str) -> str:
    """Return the sentences on lines of their own, without the name, which stands above them."""
    bare = (sentence.removeprefix(printable(name)).lstrip(": ") for sentence in sentences if sentence)
    return "\n".join(sentence[:1].upper() + sentence[1:] for sentence in bare)


def _title(heading: Heading) -> str:
    return f"{heading.name} - costax"


def filled(title: str, body: str, data: Mapping[str, Any], script: str) -> str:
    """Return a page. data: for its script, a file of this package."""
    web = files("costax.report.html") / "web"
    return PAGE.format(
        title=escape(title),
        policy=POLICY,
        style=(web / "page.css").read_text(),
        body=body,
        # The browser would end the element at a `</script>` inside a JSON string.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        charts=(web / "charts.js").read_text() + (web / "axes.js").read_text(),
        script=(web / script).read_text(),
    )


PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script id="data" type="application/json">{data}</script>
<script>{charts}</script>
<script>{script}</script>
</body>
</html>
"""


def _body(heading: Heading, data: dict[str, Any]) -> str:
    others = "".join(f"<option>{name}</option>" for name in heading.tables)
    # What answers the question of the page comes first: the waterfall of a comparison, else the layers.
    sections: list[tuple[str, str, str]] = []
    if "symbols" in data:
        sections.append(("formulas-section", "Formulas", _FORMULAS))
    if "waterfall" in data:
        sections.append(
            ("waterfall-section", "From the jaxpr to XLA", _WATERFALL.format(save=save_buttons("waterfall")))
        )
    sections.append(("layers-section", "Layers", _LAYERS.format(save=save_buttons("icicle"))))
    device = ""
    if "devices" in data:
        options = "".join(
            f"<option value='{escape(x)}'>{escape(d['name'])}</option>" for x, d in data["devices"].items()
        )
        device = f"<label>device <select id='device'>{options}</select></label>"
        sections.append(("roofline-section", "Roofline", _ROOFLINE.format(save=save_buttons("roofline"))))
    if "memory" in data:
        estimates = [(name, label) for name, label in heading.estimates if name in data["memory"]]
        accounts = "".join(f"<option value='{name}'>{escape(label)}</option>" for name, label in estimates)
        sections.append(
            ("memory-section", "Memory", _MEMORY.format(options=accounts, save=save_buttons("memory-chart")))
        )
    title = f"By {heading.tables[0]}"
    sections.append(("others-section", title, _OTHERS.format(options=others, names=_listed(heading.tables))))
    # A program without layers has no picture of them; the script needs the elements all the same.
    hidden = {"layers-section"} if "c" not in data["trees"]["full"] else set[str]()
    links = "".join(f"<a href='#{anchor}'>{name}</a>" for anchor, name, _ in sections if anchor not in hidden)
    versions = ", ".join(f"{name} {version}" for name, version in heading.versions.items())
    without_layers = "The program names no layers: no module, no jax.named_scope."
    notes_ = [*data["notes"], *([without_layers] if hidden else []), f"Made with {versions}." if versions else ""]
    parts = [
        f"<header class='top'><h1>{escape(heading.name)}</h1><button id='theme' type='button'>Dark</button></header>",
        f"<p class='hero'>{escape(heading.headline)}</p>",
        f"<p class='dim'>inputs: {escape(heading.inputs)}</p>",
        f"<nav aria-label='sections' class='bar'>{links}{device}</nav>",
        "<main><div id='cards' class='cards'></div>",
        "<p id='status' class='hidden' role='status' aria-live='polite'></p>",
    ]
    for anchor, name, inner in sections:
        parts.append(f"<section id='{anchor}' aria-label='{name}'{' hidden' * (anchor in hidden)}>{inner}</section>")
    parts += ["<footer>", *(f"<p class='note'>{escape(note)}</p>" for note in notes_ if note), "</footer>"]
    return "\n".join([*parts, "</main>"])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def save_buttons(picture: str) -> str:
    """Return the buttons that save a picture. picture: the id of its element."""
    button = "<button type='button' class='save' data-picture='{}' data-format='{}'>Save as {}</button>"
    return "".join(button.format(picture, form, form.upper()) for form in ("svg", "png"))


_LAYERS: Final = """<div class="bar"><h2>Layers</h2>
<label>weight <select id="weight"></select></label> <label>colour <select id="colour"></select></label>
<label><input type="checkbox" id="merge" checked> equal layers share one line</label></div>
<div id="icicle"></div><div id="icicle-key" class="legend"></div>
<div class="bar"><button id="out" type="button">Zoom out</button>{save}
<label>search <input id="search" type="search" placeholder="attention"></label>
<span id="matches" class="dim" aria-live="polite"></span>
<button id="unfold" type="button">Unfold all</button><button id="fold" type="button">Fold all</button></div>
<div class="scroll" tabindex="0" role="region" aria-label="table of layers">
<table id="layers"><thead></thead><tbody></tbody><tfoot></tfoot></table></div>"""

_OTHERS: Final = """<div class="bar"><h2>Other tables</h2>
<label>by <select id="by">{options}</select></label></div>
<div class="scroll" tabindex="0" role="region" aria-label="table by {names}">
<table id="others"><thead></thead><tbody></tbody></table></div>"""

_FORMULAS: Final = """<div class="bar"><h2>Formulas</h2></div>
<p class="note">All numbers on this page are evaluated at these values.</p><div id="sliders"></div>
<div class="scroll" tabindex="0" role="region" aria-label="table of formulas">
<table id="formulas" class="stack"><thead><tr><th scope="col">count</th><th scope="col">value</th>
<th scope="col" class="text">formula</th></tr></thead><tbody></tbody></table></div>"""

_ROOFLINE: Final = """<div class="bar"><h2>Roofline</h2></div>
<p id="predicted"></p><div id="roofline-picture"><div id="roofline"></div><div id="roofline-key" class="legend"></div>
<div class="bar"><span class="note">Each mark is a kernel; its area is its share of the time.</span>{save}</div></div>
<details><summary>What the prediction assumes</summary><div id="assumptions" class="note"></div></details>"""

_WATERFALL: Final = """<div class="bar"><h2>From the jaxpr to XLA</h2>
<label>count <select id="quantity"><option value="flops">FLOPs</option>
<option value="transcendentals">transcendentals</option></select></label></div>
<div id="waterfall"></div><div id="waterfall-key" class="legend"></div>
<div class="bar">{save}<label>differences of step <select id="step"></select></label>
<span id="behind" class="dim"></span></div>
<div class="scroll" tabindex="0" role="region" aria-label="table of differences"><table id="deltas" class="stack">
<thead><tr><th scope="col">equation</th><th scope="col">FLOPs</th><th scope="col">transc.</th>
<th scope="col" class="text">layer</th><th scope="col" class="text">line</th>
<th scope="col" class="text">evidence</th></tr></thead><tbody></tbody></table></div>"""

_MEMORY: Final = """<div class="bar"><h2>Memory</h2><label>estimate <select id="account">
{options}</select></label></div>
<div id="memory-picture"><div id="memory-chart"></div>
<div class="bar">{save}</div></div>
<p id="peak"></p><div class="scroll" tabindex="0" role="region" aria-label="table of arrays alive at the peak">
<table id="alive" class="stack"><thead><tr><th scope="col">array</th><th scope="col">bytes</th>
<th scope="col" class="text">primitive</th><th scope="col" class="text">layer</th>
<th scope="col" class="text">alive because</th></tr></thead><tbody></tbody></table></div>"""
