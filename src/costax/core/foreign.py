"""Text about the exceptions and objects of a user's program, whose own `__str__` and `__repr__` may raise."""

from __future__ import annotations


def message_of(error: BaseException) -> str:
    """Return the message of an exception; an empty text if it has none, or if its `__str__` raises."""
    try:
        return str(error).strip()
    except Exception:
        return ""


def representation(value: object) -> str:
    """Return the repr of an object; that of a plain object if its `__repr__` raises."""
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)
