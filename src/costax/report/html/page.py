"""The HTML report: one self-contained file, which opens offline and makes no network request."""

from __future__ import annotations

import json
from html import escape
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from costax.core.printable import printable
from costax.errors import ExtraError
from costax.report import notes
from costax.report.headlines import headline
from costax.report.html.data import contents
from costax.report.shown import analysis_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from costax.hlo.module_analysis import ModuleAnalysis
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


def module_as_html(module: ModuleAnalysis, **_: Any) -> str:
    """Return the report of a module as one page. Raises ExtraError if plotly is not installed."""
    from costax.analysis.compiled_module import CompiledModule, of_analysis
    from costax.report.html import module_data

    program = module if isinstance(module, CompiledModule) else of_analysis(module)
    heading = Heading(
        printable(program.name),
        module_data.inputs(program),
        program.versions,
        headline(program),
        module_data.TABLES,
        (("fused", program.memory.source),),
    )
    return _filled(heading, module_data.contents(program))


def as_html(account: Shown, **_: Any) -> str:
    """Return the report of an analysis or a comparison as one page. Raises ExtraError if plotly is not installed."""
    return page(account, contents(account))


def page(account: Shown, data: dict[str, Any]) -> str:
    """Return the HTML of the page. data: the result of `contents`, possibly changed."""
    analysis = analysis_of(account)
    return _filled(Heading(analysis.name, notes.inputs(analysis), analysis.versions, headline(account)), data)


def _filled(heading: Heading, data: dict[str, Any]) -> str:
    web = files("costax.report.html") / "web"
    # The browser would end the element at a `</script>` inside a JSON string.
    embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return PAGE.format(
        title=escape(f"{heading.name} - costax"),
        policy=POLICY,
        style=(web / "page.css").read_text(),
        body=_body(heading, data),
        data=embedded,
        plotly=plotly_script(),
        script=(web / "page.js").read_text(),
    )


def plotly_script() -> str:
    """Return the JavaScript of plotly. Raises ExtraError if plotly is not installed."""
    try:
        offline: Any = import_module("plotly.offline")
    except ImportError as error:
        raise ExtraError("plotly", "The HTML report", "html") from error
    return offline.get_plotlyjs()


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
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def _body(heading: Heading, data: dict[str, Any]) -> str:
    others = "".join(f"<option>{name}</option>" for name in heading.tables)
    sections = [
        ("layers-section", "Layers", _LAYERS),
        ("others-section", f"By {heading.tables[0]}", _OTHERS.format(options=others, names=_listed(heading.tables))),
    ]
    if "symbols" in data:
        sections.insert(0, ("formulas-section", "Formulas", _FORMULAS))
    if "devices" in data:
        options = "".join(
            f"<option value='{escape(x)}'>{escape(d['name'])}</option>" for x, d in data["devices"].items()
        )
        sections.append(("roofline-section", "Roofline", _ROOFLINE.format(options=options)))
    if "waterfall" in data:
        sections.append(("waterfall-section", "From the jaxpr to XLA", _WATERFALL))
    if "memory" in data:
        accounts = "".join(f"<option value='{name}'>{escape(label)}</option>" for name, label in heading.estimates)
        sections.append(("memory-section", "Memory", _MEMORY.format(options=accounts)))
    links = "".join(f"<a href='#{anchor}'>{name}</a>" for anchor, name, _ in sections)
    versions = ", ".join(f"{name} {version}" for name, version in heading.versions.items())
    note_lines = "".join(f"<p class='note'>{escape(note)}</p>" for note in data["notes"])
    parts = [
        "<header class='top'><div>",
        f"<h1>{escape(heading.name)}</h1><p class='hero'>{escape(heading.headline)}</p>",
        f"<p class='dim'>inputs: {escape(heading.inputs)}</p>",
        f"<p class='dim'>{escape(versions)}</p></div><button id='theme' type='button'>Dark</button></header>",
        f"<nav aria-label='sections'>{links}</nav>",
        "<main><div id='cards' class='cards'></div>",
        note_lines,
        "<p id='status' class='hidden' role='status' aria-live='polite'></p>",
    ]
    parts += [f"<section id='{anchor}' aria-label='{name}'>{inner}</section>" for anchor, name, inner in sections]
    return "\n".join([*parts, "</main>"])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


_LAYERS: Final = """<div class="bar"><h2>Layers</h2>
<label>weight <select id="weight"></select></label>
<label><input type="checkbox" id="merge" checked> equal layers share one line</label>
<button id="out" type="button">Zoom out</button></div>
<div id="icicle" class="chart" role="img"></div>
<div class="bar" style="margin-top:1rem"><label>search <input id="search" type="search" placeholder="attention"></label>
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
<table id="formulas"><thead><tr><th scope="col">count</th><th scope="col">value</th>
<th scope="col" style="text-align:left">formula</th></tr></thead><tbody></tbody></table></div>"""

_ROOFLINE: Final = """<div class="bar"><h2>Roofline</h2>
<label>device <select id="device">{options}</select></label></div>
<p id="predicted"></p><div id="roofline" class="chart" role="img"
aria-label="Roofline: FLOP/s over FLOPs per byte, one mark for each kernel"></div>
<p class="note">Each mark is a kernel; its area is its share of the time.</p>"""

_WATERFALL: Final = """<div class="bar"><h2>From the jaxpr to XLA</h2>
<label>count <select id="quantity"><option value="flops">FLOPs</option>
<option value="transcendentals">transcendentals</option></select></label></div>
<div id="waterfall" class="chart" role="img"
aria-label="Waterfall from the count of costax to the count of XLA; the table below lists the differences"></div>
<p class="note">The vertical axis does not start at 0, because the differences are small compared with the totals.</p>
<div class="bar"><label>differences by cause <select id="step"></select></label>
<span id="behind" class="dim"></span></div>
<div class="scroll" tabindex="0" role="region" aria-label="table of differences"><table id="deltas"><thead><tr>
<th scope="col">equation</th><th scope="col">FLOPs</th><th scope="col">transc.</th>
<th scope="col" style="text-align:left">layer</th><th scope="col" style="text-align:left">line</th>
<th scope="col" style="text-align:left">evidence</th></tr></thead><tbody></tbody></table></div>"""

_MEMORY: Final = """<div class="bar"><h2>Memory</h2><label>estimate <select id="account">
{options}</select></label></div>
<div id="memory-chart" class="chart" style="height:340px" role="img"
aria-label="Bytes alive at each equation; the table below lists the arrays alive at the peak"></div>
<p id="peak"></p><div class="scroll" tabindex="0" role="region" aria-label="table of arrays alive at the peak">
<table id="alive"><thead><tr><th scope="col">array</th><th scope="col">bytes</th>
<th scope="col" style="text-align:left">primitive</th><th scope="col" style="text-align:left">layer</th>
<th scope="col" style="text-align:left">alive because</th></tr></thead><tbody></tbody></table></div>"""
