"""Names of files that are not finished: each is written beside its target and then renamed."""

from __future__ import annotations

import secrets
from collections import deque
from pathlib import Path
from typing import Final

SAVED: Final[deque[str]] = deque(maxlen=100)
"""The files that were saved last; an interrupted command names them."""


def unfinished_name(target: Path) -> Path:
    """Return a name beside a file that no other thread or process uses."""
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
