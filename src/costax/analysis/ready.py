"""Ready: what `costax.analyze(fn)` returns, a function that still waits for the arguments of `fn`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

_R = TypeVar("_R")


class Ready(Generic[_R]):
    """A question about a program that waits for the program's arguments; calling it with them returns the answer."""

    __slots__ = ("_answer", "_fn", "_question")

    def __init__(self, question: str, fn: Any, answer: Callable[..., _R]) -> None:
        """Take the name of the function that asks, such as "analyze", the program, and what answers."""
        self._question, self._fn, self._answer = question, fn, answer

    def __call__(self, *args: Any, **kwargs: Any) -> _R:
        """Return the answer for the arguments of the program."""
        return self._answer(*args, **kwargs)

    @property
    def _program(self) -> str:
        return getattr(self._fn, "__name__", None) or type(self._fn).__name__

    def __repr__(self) -> str:
        """Return what is missing, and an example."""
        call = f"costax.{self._question}({self._program})"
        return f'<{call} waits for the arguments of {self._program}: {call}(x) or {call}("f32[8,128]")>'

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError, which says that the arguments are missing."""
        call = f"costax.{self._question}({self._program})"
        raise AttributeError(
            f"{call} has no {name!r} yet: it waits for the arguments of {self._program}. "
            f'Call it with them first, as arrays or shapes: {call}("f32[8,128]").{name}'
        )
