"""Source lines: which files are the user's own, and which line stands for work that several frames lead to."""

from __future__ import annotations

import re
import sysconfig

# Of any machine: a module of XLA may have been written on another one.
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib(?:64)?[/\\]python3[.\d]*[/\\]")
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
# What a user types has one of these names; other names in brackets are code that a library generates.
_TYPED = ("<stdin>", "<string>", "<console>", "<input>", "<ipython-input", "<python-input", "<doctest")


class LibraryLine(str):
    """The `file:line` of an installed library, for work that has no line of the user."""

    __slots__ = ()


def is_installed(filename: str) -> bool:
    """Return whether a file belongs to an installed package or to the standard library, by its path.

    >>> is_installed("/venv/lib/python3.11/site-packages/flax/linen/linear.py"), is_installed("/home/me/model.py")
    (True, False)
    """
    if filename.startswith("<"):
        return not filename.startswith(_TYPED)
    return _INSTALLED.search(filename) is not None or filename.startswith(_STANDARD_LIBRARY)


def nearest_line(line: str, outer: str) -> str:
    """Return the line of an equation: its own, or that of the call around it if only that is the user's.

    >>> nearest_line(LibraryLine("optax/transform.py:9"), "train.py:3"), nearest_line("", "train.py:3")
    ('train.py:3', 'train.py:3')
    >>> nearest_line(LibraryLine("optax/transform.py:9"), "")
    'optax/transform.py:9'
    """
    if not line or (isinstance(line, LibraryLine) and outer and not isinstance(outer, LibraryLine)):
        return outer
    return line
