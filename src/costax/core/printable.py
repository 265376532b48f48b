"""Text of others as text that is safe to print.

A name comes from a program, a record, a module or a trace. With control characters in it, a name would change the title
of the terminal, open links or write lines of its own into a table.
"""

from __future__ import annotations

import re
from typing import Final

# Longer names are cut: a table with a name of 500,000 characters takes gigabytes.
_LONGEST: Final = 20_000
# Everything but the newlines between the lines of a text, and the colours that rich writes itself.
_CONTROL: Final = re.compile(r"(?!\x1b\[[0-9;]*m|\n)[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return a name as one line, with a replacement character for every sign that is not printable.

    >>> printable("layer\n\x1b]0;title\x07")
    'layer��]0;title�'
    """
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text):,} characters)"
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def without_controls(text: str) -> str:
    """Return a text of several lines without control characters. Colours stay, and so do newlines."""
    return _CONTROL.sub("\ufffd", text)
