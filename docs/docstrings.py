"""How the pages of the API show docstrings: the fields of a class as a list, properties as prose, no internals."""

from __future__ import annotations

import inspect
import re
from typing import Any

import costax
from costax.analysis.counts import Counts
from costax.core.display import Displayed


def setup(app: Any) -> None:
    """Connect the handlers; Sphinx calls this."""
    # napoleon has the priority 500.
    app.connect("autodoc-process-docstring", show, priority=600)
    app.connect("autodoc-process-signature", hide_signature)
    app.connect("autodoc-skip-member", hide_internals)
    app.connect("doctree-read", show_dashes)


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
    return issubclass(cls, Displayed) or cls.__name__ not in costax.__all__


def hide_signature(app: Any, what: str, name: str, value: Any, *_: Any) -> tuple[str, None] | None:
    """Leave out the parameters of a class that users do not construct."""
    return ("", None) if what == "class" and value.__module__.startswith("costax.") and is_result(value) else None


def hide_internals(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the names that tab completion leaves out."""
    home = getattr(getattr(value, "fget", value), "__module__", "")
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
