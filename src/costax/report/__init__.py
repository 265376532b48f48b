"""Tables for terminals and notebooks, and the formats in which results are saved and loaded.

`costax.core.display` calls the functions of this module by name; no package below this one imports it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from costax.core.regular_files import read_regular
from costax.core.unfinished_files import write
from costax.errors import InputError, RecordError
from costax.report.shown import analysis_of

if TYPE_CHECKING:
    from costax.analysis.analysis import Analysis
    from costax.report.comparison_record import SavedComparison
    from costax.report.module_record import SavedModule

__all__ = [
    "FORMATS",
    "analysis_of",
    "as_format",
    "check_file",
    "format_names",
    "load",
    "load_any",
    "notebook_html",
    "plain_text",
    "plot_breakdown",
    "plot_roofline",
    "renderable",
    "save",
    "summary",
    "table",
    "to_pandas",
    "write",
]

# The renderer of each class, and of the classes derived from it: a module of this package whose `render(value)` returns
# what rich prints, or a function, "module.function". The names are strings, so that showing a record imports only the
# modules it needs.
_RENDERERS: Final[Mapping[str, str]] = {
    "Analysis": "text",
    "Answer": "other_tools",
    "Budget": "listing.of_fields",
    "CompiledSummary": "listing.of_fields",
    "Cost": "listing",
    "Entries": "listing",
    "Items": "listing",
    "Values": "listing",
    "BaseComparison": "waterfall",
    "Device": "device",
    "Diff": "diff",
    "Energy": "energy",
    "Explanation": "listing.of_explanation",
    "Fit": "fit",
    "Join": "join",
    "Measurement": "measurement",
    "MemoryProfile": "listing.of_profile",
    "MemoryUse": "listing.of_fields",
    "Meter": "listing.of_meter",
    "ModuleMemory": "listing.of_fields",
    "PassStep": "listing.of_fields",
    "PassTrail": "passes",
    "ModuleAnalysis": "hlo_module",
    "SavedModule": "hlo_module",
    "ModuleDiff": "module_diff",
    "Prediction": "prediction",
    "Reading": "listing.of_reading",
    "Rule": "listing.of_fields",
    "Run": "energy",
    "Saved": "listing.of_fields",
    "StageCost": "listing.of_fields",
    "Sweep": "sweep",
    "Table": "text.rich_table",
    "Target": "listing.of_fields",
    "Utilisation": "utilisation",
    "WhatIf": "what_if",
}


class Format(NamedTuple):
    """A file format: its suffix, and for each class of value the function (`module.function`) of its contents.

    beside: the function of further files with the same stem, by their suffix; {} for a format of one file.
    """

    suffix: str
    contents: Mapping[str, str]
    beside: Mapping[str, str] = {}


_BOTH = ("Analysis", "BaseComparison")
# A suffix comes before its own ending: `.speedscope.json` before `.json`.
FORMATS: Final[Mapping[str, Format]] = {
    "speedscope": Format(
        ".speedscope.json",
        {
            **dict.fromkeys(_BOTH, "formats.as_speedscope"),
            "Prediction": "flamegraph.prediction_as_speedscope",
            "Join": "flamegraph.join_as_speedscope",
        },
    ),
    "perfetto": Format(".perfetto.json", {"Prediction": "flamegraph.prediction_as_perfetto"}),
    "model-explorer": Format(
        ".model_explorer.json",
        {
            **dict.fromkeys(_BOTH, "model_explorer.as_graph"),
            "Prediction": "model_explorer.prediction_as_graph",
            "Join": "model_explorer.join_as_graph",
        },
        {
            **dict.fromkeys(_BOTH, "model_explorer.overlays"),
            "Prediction": "model_explorer.prediction_overlays",
            "Join": "model_explorer.join_overlays",
        },
    ),
    "json": Format(
        ".json",
        {
            **dict.fromkeys(_BOTH, "formats.as_json"),
            "Prediction": "prediction.as_json",
            "ModuleAnalysis": "hlo_module.as_json",
            "SavedModule": "hlo_module.as_json",
            "Join": "join.as_json",
            "PassTrail": "passes.as_json",
            "Utilisation": "utilisation.as_json",
        },
    ),
    "scheduler": Format(".pbtxt", {"Prediction": "scheduler_costs.as_pbtxt"}),
    "markdown": Format(
        ".md",
        {
            **dict.fromkeys(_BOTH, "formats.as_markdown"),
            "ModuleAnalysis": "module_formats.as_markdown",
            "SavedModule": "module_formats.as_markdown",
            "Prediction": "prediction_formats.as_markdown",
        },
    ),
    "csv": Format(
        ".csv",
        {
            **dict.fromkeys(_BOTH, "formats.as_csv"),
            "ModuleAnalysis": "module_formats.as_csv",
            "Prediction": "prediction_formats.as_csv",
        },
    ),
    "html": Format(
        ".html",
        {
            **dict.fromkeys(_BOTH, "html.page.as_html"),
            "ModuleAnalysis": "html.page.module_as_html",
            "Prediction": "html.page.prediction_as_html",
            "Join": "html.join.as_html",
        },
    ),
    "pprof": Format(".pb.gz", dict.fromkeys(_BOTH, "formats.as_pprof")),
}
"""The file formats. To add a format, add a row here and a function."""


def format_names(kind: type[Any] | str) -> list[str]:
    """Return the names of the formats that a class of value can be saved in."""
    return [name for name, form in FORMATS.items() if any(c in form.contents for c in _classes(kind))]


def renderable(value: Any, **choice: Any) -> Any:
    """Return what rich prints of a value. choice: the options of its table. Raises InputError for any other value."""
    module = next((_RENDERERS[name] for name in _classes(_type(value)) if name in _RENDERERS), None)
    if module is None:
        raise InputError(
            f"costax has no table for a value of type {type(value).__name__}.",
            why="Only the results of costax have tables: analyses, comparisons, predictions and others.",
            cure=f"Pass one of: {', '.join(_RENDERERS)}.",
        )
    return _function(module if "." in module else f"{module}.render")(value, **choice)


def plain_text(value: Any) -> str:
    """Return the tables of a value as plain text, without colours, as wide as standard output if it is a terminal."""
    from costax.report.text import output_width, plain

    return plain(renderable(value), output_width())


def summary(value: Any) -> str:
    """Return the answer of a value in a sentence, at most five lines: its `repr`."""
    from costax.report.summaries import summary as summary_of
    from costax.report.text import plain

    # The same lines in every terminal.
    return summary_of(value, lambda shown: plain(renderable(shown)))


def notebook_html(value: Any) -> str:
    """Return the tables of a value as HTML for a notebook."""
    from costax.report.notebook import as_html, from_rich

    is_table = any(name in _BOTH for name in _classes(_type(value)))
    return as_html(value) if is_table else from_rich(renderable(value))


def save(value: Any, path: str | Path, **choice: Any) -> None:
    """Write a value to a file in the format that the suffix of the path names, one of `FORMATS`.

    choice: the options of the table, for formats that contain one. An interrupted write leaves no file behind.
    Raises RecordError if no format of this class of value has the suffix, or if the file cannot be written.
    """
    kind = _type(value)
    name = check_file(path, kind)
    contents = as_format(name, kind)(value, **choice)
    form = FORMATS[name]
    beside = [form.beside[c] for c in _classes(kind) if c in form.beside]
    further: dict[str, str] = _function(beside[0])(value) if beside else {}
    write(path, contents)
    for suffix, text in further.items():
        write(str(path)[: -len(form.suffix)] + suffix, text)


def check_file(path: str | Path, kind: type[Any] | str = "Analysis") -> str:
    """Return the name of the format that the suffix of a path names, for a class of value.

    Raises RecordError if no format of the class has the suffix, or if the directory does not exist.
    """
    file, classes = Path(path), _classes(kind)
    offered = {name: FORMATS[name].suffix for name in format_names(kind)}
    chosen = next((name for name, suffix in offered.items() if file.name.lower().endswith(suffix)), None)
    if chosen is None:
        noun = _noun(classes[0])
        fault = f"no format of {noun} has the suffix {file.suffix!r}" if file.suffix else "the path has no suffix"
        raise RecordError(
            f"{str(path)!r} cannot be written: {fault}.",
            why="The suffix of a file selects its format.",
            cure=f"Use one of {', '.join(offered.values())}.",
        )
    if not file.parent.is_dir():
        raise RecordError(
            f"{str(path)!r} cannot be written: the directory {str(file.parent)!r} does not exist.",
            why="costax creates files, but no directories.",
            cure="Create the directory first, or use another path.",
        )
    return chosen


def as_format(name: str, kind: type[Any] | str = "Analysis") -> Callable[..., str | bytes]:
    """Return the function that turns a value of a class into the contents of one of `FORMATS`."""
    contents = FORMATS[name].contents
    return _function(next(contents[c] for c in _classes(kind) if c in contents))


# A record has some hundred bytes for each equation.
_MOST_BYTES: Final = 1 << 30


def load(path: str | Path) -> Analysis:
    """Return the analysis of a saved record, with the same tables as the saved analysis. Does not import jax.

    From the record of a comparison it returns the analysis of the program.

    Args:
        path: A .json file that `save` or --save has written.

    Raises RecordError if the file cannot be read or is not a record.
    """
    return analysis_of(load_any(path))


def load_any(path: str | Path) -> Analysis | SavedComparison:
    """Return the analysis or the comparison of a saved record. Does not import jax. Raises RecordError."""
    record = _record(path)
    if _is_of(record, "costax/comparison/"):
        from costax.report.comparison_record import ComparisonReader

        return ComparisonReader(str(path)).comparison(record)
    from costax.report.record import from_record

    return from_record(record, str(path))


def load_module(path: str | Path) -> SavedModule | None:
    """Return the analysis of an HLO module from its record; None for a record of another kind. Raises RecordError."""
    record = _record(path)
    if not _is_of(record, "costax/hlo/"):
        return None
    from costax.report.module_record import ModuleRecordReader

    return ModuleRecordReader(str(path)).module(record)


def _is_of(record: Any, family: str) -> bool:
    return isinstance(record, dict) and str(cast("dict[str, Any]", record).get("schema")).startswith(family)


def _record(path: str | Path) -> Any:
    try:
        return json.loads(read_regular(path, _MOST_BYTES))
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be read: {error.strerror or error}.",
            why="A record is a .json file that `save` or --save has written.",
            cure="Check the path, and that you may read the file.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{str(path)!r} is not JSON: {error}.",
            why="A record of costax is a JSON file; costax does not load the other formats.",
            cure="Save it as .json: costax analyze TARGET --save FILE.json.",
        ) from error


def to_pandas(analysis: Analysis) -> Any:
    """Return the rows of an analysis as a pandas data frame."""
    from costax.report.dataframe import frame

    return frame(analysis)


def table(analysis: Analysis, **choice: Any) -> Any:
    """Return the table of an analysis; see `costax.report.tables.table`."""
    from costax.report.tables import table as table_of

    return table_of(analysis, **choice)


def plot_breakdown(analysis: Analysis, **choice: Any) -> Any:
    """Draw a bar for each layer or primitive; see `costax.report.plots.plot_breakdown`."""
    from costax.report import plots

    return plots.plot_breakdown(analysis, **choice)


def plot_roofline(analysis: Analysis, device: str, **choice: Any) -> Any:
    """Draw the roofline of a program on a device; see `costax.report.plots.plot_roofline`."""
    from costax.report import plots

    return plots.plot_roofline(analysis, device, **choice)


def equations(comparison: Any) -> Any:
    """Return the equations of a comparison whose counts differ from XLA's, as a table for rich."""
    from costax.report import waterfall

    return waterfall.equations(comparison)


def _type(value: Any) -> type[Any]:
    return cast("type[Any]", type(value))


def _classes(kind: type[Any] | str) -> list[str]:
    return [kind] if isinstance(kind, str) else [base.__name__ for base in kind.__mro__]


def _noun(name: str) -> str:
    return {"ModuleAnalysis": "an HLO module", "SavedModule": "a saved HLO module", "Analysis": "an analysis"}.get(
        name, f"a {name.lower()}"
    )


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), name)
