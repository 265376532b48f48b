"""How the pages of the API show docstrings: the fields of a class as a list, properties as prose, no internals."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import costax
from costax.analysis.counts import Counts
from costax.core.display import Printed


def setup(app: Any) -> None:
    """Connect the handlers; Sphinx calls this."""
    # napoleon has the priority 500.
    app.connect("autodoc-process-docstring", show, priority=600)
    app.connect("autodoc-process-signature", hide_signature)
    app.connect("autodoc-skip-member", hide_internals)
    app.connect("doctree-read", show_dashes)
    app.connect("build-finished", check_parameters)


def show(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Show a property as its docstring says, since napoleon takes what precedes a colon for a type; list the fields."""
    if what in {"property", "attribute"} and isinstance(value, property) and value.__doc__:
        lines[:] = [*inspect.cleandoc(value.__doc__).splitlines(), ""]
    elif what == "class" and value.__module__.startswith("costax.") and "Args:\n" not in (value.__doc__ or ""):
        lines[:] = with_fields(value)


def show_dashes(app: Any, document: Any) -> None:
    """Write the dash behind the name of a parameter, which Sphinx leaves to its typography of quotation marks."""
    # The tests of this module run without docutils.
    from docutils import nodes

    for text in [text for text in document.findall(nodes.Text) if text == " -- "]:
        text.parent.replace(text, nodes.Text(" – "))


def is_result(cls: type) -> bool:
    """Return whether costax makes the values of a class, and users only read them."""
    if "Args:\n" in (cls.__doc__ or ""):
        return False
    return issubclass(cls, Printed) or cls.__name__ not in costax.__all__


def hide_signature(app: Any, what: str, name: str, value: Any, *_: Any) -> tuple[str, None] | None:
    """Leave out the parameters of a class that users do not construct."""
    return ("", None) if what == "class" and value.__module__.startswith("costax.") and is_result(value) else None


def hide_internals(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the names that tab completion leaves out."""
    # A cached property has its function in `func`, and any other property in `fget`.
    home = getattr(getattr(value, "fget", getattr(value, "func", value)), "__module__", "")
    of_analysis = name in Counts.internals and home in {"costax.analysis.counts", "costax.analysis.analysis"}
    return True if name == "internals" or of_analysis else None


def with_fields(cls: type) -> list[str]:
    """Return the docstring of a class in reStructuredText, with its fields and those of its bases as a list."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("costax.") and base.__doc__]
    parts = [split(inspect.cleandoc(base.__doc__ or ""), fields(cls)) for base in bases]
    hidden: frozenset[str] = getattr(cls, "internals", frozenset())
    listed = {name: text for _, texts in reversed(parts) for name, text in texts.items() if name not in hidden}
    kind = "ivar" if is_result(cls) else "param"
    return [*parts[0][0].splitlines(), "", *(f":{kind} {name}: {text}" for name, text in listed.items()), ""]


def fields(cls: type) -> list[str]:
    """Return the names of what an instance of a class is made of."""
    annotated = [name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})]
    try:
        parameters = list(inspect.signature(cls).parameters)
    except ValueError:
        parameters = []
    slots = [name for base in cls.__mro__ for name in vars(base).get("__slots__", ())]
    return [name for name in dict.fromkeys([*parameters, *annotated, *slots]) if not name.startswith("_")]


def split(text: str, names: list[str]) -> tuple[str, dict[str, str]]:
    """Return the prose of a docstring, and what it says of each field in sentences such as `nbytes: its size.`

    >>> split("An array.\\n\\nnbytes: its size.\\nscope, source: of its equation.", ["nbytes", "scope", "source"])
    ('An array.', {'nbytes': 'its size.', 'scope': 'of its equation.', 'source': 'of its equation.'})
    """
    if not names:
        return text, {}
    one = "|".join(map(re.escape, names))
    marker = re.compile(rf"(?:^|(?<=[.;)] )|(?<=[.;)]\n))((?:{one})(?:,\s+(?:{one}))*):\s+", re.MULTILINE)
    prose: list[str] = []
    said: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        first, *rest = marker.split(paragraph)
        if first.strip():
            prose.append(first.rstrip())
        for listed, sentence in zip(rest[::2], rest[1::2], strict=True):
            said |= dict.fromkeys(re.split(r",\s+", listed), " ".join(sentence.split()))
    return "\n\n".join(prose), said


def check_parameters(app: Any, error: Exception | None) -> None:
    """Warn of each public function and method whose parameters do not all stand in a list on its built page."""
    if error is not None or app.builder.name != "html":
        return
    from sphinx.util import logging

    folder = Path(app.outdir)
    built = [*folder.glob("api/*.html"), folder / "generated" / "results.html"]
    pages = "".join(page.read_text(encoding="utf-8") for page in built)
    for name, parameters in undescribed(pages).items():
        logging.getLogger(__name__).warning("%s is built without its parameters: %s", name, ", ".join(parameters))


def undescribed(pages: str) -> dict[str, list[str]]:
    """Return the public functions and methods without an entry in HTML pages ([""]), or without these parameters."""
    entries = dict(
        re.findall(r'<dt class="sig[^>]*id="([^"]+)">(.*?)(?=<dt class="sig|</section>|\Z)', pages, re.DOTALL)
    )
    missing: dict[str, list[str]] = {}
    for places, function in public_functions():
        entry = next((entries[place] for place in places if place in entries), None)
        if entry is None:
            missing[places[0]] = [""]
            continue
        listed = re.findall(r"<strong>\*{0,2}(\w+)</strong>", entry)
        names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls", "_")]
        absent = [name for name in names if name not in listed]
        if absent:
            missing[places[0]] = absent
    return missing


def public_functions() -> Iterator[tuple[list[str], Any]]:
    """Yield each public function, and each method of a public class, with the names that its entry may have."""
    for name in costax.__all__:
        value = getattr(costax, name)
        if not inspect.isclass(value):
            yield [f"costax.{name}", f"{value.__module__}.{value.__qualname__}"], value
            continue
        homes = [f"costax.{name}", *(f"{base.__module__}.{base.__qualname__}" for base in value.__mro__)]
        for member in dir(value):
            method = inspect.getattr_static(value, member)
            method = getattr(method, "__func__", method)
            own = inspect.isfunction(method) and method.__module__.startswith("costax.")
            former = "ormer name" in (method.__doc__ or "")
            if own and not former and not member.startswith("_") and member not in getattr(value, "internals", ()):
                yield [f"{home}.{member}" for home in homes], method
