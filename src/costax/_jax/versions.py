"""The versions of the installed jax and jaxlib, as tuples that compare."""

from __future__ import annotations

import re

import jax
from jaxlib import version as _jaxlib

VERSION: tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", jax.__version__)[:3])
JAXLIB_VERSION: tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", _jaxlib.__version__)[:3])
