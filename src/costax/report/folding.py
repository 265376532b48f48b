"""Where a line of text may break: never inside a number or before its unit, and a name after one of its separators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len
from rich.text import Text

# Places where a line may end, the best kind first: a space, but not the one between a number and its unit; the end of
# a part of a path or of a term of a formula, but not the sign of an exponent; the end of a word of a name.
_ENDS: Final = (
    re.compile(r"(?<!\d) "),
    re.compile(r"/|(?<!\de)\+|[:;]|[.,](?!\d)"),
    re.compile(r"\*"),
    re.compile(r"_|(?<!\de)-|\("),
)
# Of the room on a line, the part that may stay empty for the sake of a better kind of place.
_EMPTY: Final = 0.6


def folded(text: Text, width: int) -> Text:
    """Return a text with a line break wherever one of its lines is longer than the width.

    >>> print(folded(Text("It takes 1.81 GFLOPs."), 15).plain)
    It takes
    1.81 GFLOPs.
    """
    ends: list[int] = []
    start = 0
    for line in text.plain.split("\n"):
        ends.extend(start + end for end in _line_ends(line, width))
        start += len(line) + 1
    lines = text.divide(ends)
    for line in lines[:-1]:
        line.rstrip()
    return Text("\n", style=text.style).join(lines) if ends else text


def folded_name(name: str, width: int) -> str:
    """Return a name with a line break behind a part of it wherever it is longer than the width.

    >>> print(folded_name("decoder/layer_11/attention/query", 24))
    decoder/layer_11/
    attention/query
    """
    return folded(Text(name), width).plain


def _line_ends(line: str, width: int) -> Iterator[int]:
    """Yield the positions at which a line is broken, so that each part of it fits the width."""
    start = 0
    while cell_len(line[start:].rstrip()) > width:
        start = _end(line, start, width)
        yield start


def _end(line: str, start: int, width: int) -> int:
    longest = start + width
    while cell_len(line[start:longest]) > width:
        longest -= 1
    longest = max(longest, start + 1)
    indented = start + len(line[start:]) - len(line[start:].lstrip())
    for position, kind in enumerate(_ENDS):
        # A space may be the character behind the last one that fits.
        ends = [match.end() for match in kind.finditer(line, start, longest + (position == 0))]
        ends = [end for end in ends if indented < end - 1]
        if ends and (position == len(_ENDS) - 1 or ends[-1] - start > (1 - _EMPTY) * width):
            return ends[-1]
    # Not inside a number, unless it is longer than a line.
    digits = re.search(r"[\d,.]+$", line[start:longest])
    whole = digits is None or not line[longest : longest + 1].isdigit() or digits.start() == 0
    return longest if whole or digits is None else start + digits.start()
