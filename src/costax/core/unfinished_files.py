"""Names of files that are not finished: each is written beside its target and then renamed."""

from __future__ import annotations

import secrets
from pathlib import Path


def unfinished_name(target: Path) -> Path:
    """Return a name beside a file that no other thread or process uses."""
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
