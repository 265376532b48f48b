"""Writers: where a meter sends its numbers. None of their packages is imported: what is passed tells its kind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from costax.errors import InputError

Write = Callable[[Any, Mapping[str, float]], object]
"""Writes the scalars of a reading, by name."""


def writer(to: Any) -> Write:
    """Return the function that writes to an object.

    to: a writer of `clu.metric_writers` (it has `write_scalars`), a `SummaryWriter` of tensorboardX, torch or flax (it
    has `add_scalar` or `scalar`), a run of wandb (it has `log`), or a function that takes a reading. Names of scalars
    begin with `costax/`. Raises InputError for anything else.
    """
    if hasattr(to, "write_scalars"):
        return lambda reading, scalars: to.write_scalars(reading.step, _named(scalars))
    if hasattr(to, "add_scalar"):
        return lambda reading, scalars: _each(to.add_scalar, reading.step, scalars)
    if hasattr(to, "scalar") and not callable(to):
        return lambda reading, scalars: _each(to.scalar, reading.step, scalars)
    log = getattr(to, "log", None)
    if log is not None and not isinstance(to, logging.Logger):
        # Without `step` wandb writes a row of its own: one with a step before that of the last row would be lost.
        return lambda reading, scalars: log({**_named(scalars), "costax/step": reading.step})
    if callable(to):
        return lambda reading, scalars: to(reading)
    raise InputError(
        f"The meter cannot write to a {type(to).__name__}.",
        why="It writes to a function, a writer of clu.metric_writers, a SummaryWriter (TensorBoard) or a run of wandb.",
        cure="Pass one of these, or a function: to=lambda reading: logger.info(str(reading)).",
    )


def _named(scalars: Mapping[str, float]) -> dict[str, float]:
    return {f"costax/{name}": value for name, value in scalars.items()}


def _each(add: Callable[[str, float, int], object], step: int, scalars: Mapping[str, float]) -> None:
    for name, value in _named(scalars).items():
        add(name, value, step)
