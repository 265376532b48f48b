"""Which jax and jaxlib are here, as tuples that compare."""

from __future__ import annotations

import re

import jax
import jaxlib

VERSION: tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", jax.__version__)[:3])
JAXLIB_VERSION: tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", jaxlib.__version__)[:3])
