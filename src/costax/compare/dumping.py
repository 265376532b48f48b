"""A folder in memory for the modules that XLA dumps, one after every pass, while it compiles once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from costax.errors import InputError

_MAX_BYTES: Final = 2**30
# Memory-backed storage of Linux: dumps are written and read once, so they need no disk.
_IN_MEMORY: Final = Path("/dev/shm")

OPTIONS: Final[Mapping[str, str | bool]] = {
    # Only with ".*" does XLA leave out the passes that changed nothing.
    "xla_dump_hlo_pass_re": ".*",
    "xla_dump_hlo_as_proto": True,
    # The code that a CPU runs is dumped too unless no emitter matches.
    "xla_dump_emitter_re": "none",
}


def flags(folder: str) -> str:
    """Return the same options as XLA_FLAGS, for a compiler in another process, after those that are set already."""
    values = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": ".*", "xla_dump_hlo_as_proto": "true"}
    own = " ".join(f"--{name}={value}" for name, value in values.items())
    return f"{os.environ.get('XLA_FLAGS', '')} {own}".strip()


@contextmanager
def dump_folder() -> Generator[str]:
    """Return an empty folder that is deleted when the block ends, however it ends."""
    parent = str(_IN_MEMORY) if _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _MAX_BYTES else None
    with tempfile.TemporaryDirectory(prefix="costax-passes-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield folder


def check_size(folder: str, name: str) -> None:
    """Raise InputError if the dumped modules are too large to be read."""
    nbytes = sum(path.stat().st_size for path in Path(folder).iterdir())
    if nbytes > _MAX_BYTES:
        raise InputError(
            f"The modules that XLA dumped while it compiled `{name}` take {nbytes / 2**30:.1f} GiB.",
            why="costax reads one module for each pass, and reads up to 1 GiB.",
            cure="Compare without passes (passes=False), or a smaller program: fewer layers, or a scan over layers.",
        )
