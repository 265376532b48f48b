"""A folder in memory for the modules that XLA dumps, one after every pass, while it compiles once."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from costax.core.guards import guarded
from costax.errors import InputError

_MAX_BYTES: Final = 2**30
# With fewer free bytes when XLA is done, one of its modules may not have fitted.
_LEAST_ROOM: Final = 2**15
# Memory-backed storage of Linux: dumps are written and read once, so they need no disk.
_IN_MEMORY: Final = Path("/dev/shm")

_OPTIONS: Final[Mapping[str, str]] = {
    # Only with ".*" does XLA leave out the passes that changed nothing.
    "xla_dump_hlo_pass_re": ".*",
    "xla_dump_hlo_as_proto": "true",
    # So that jax 0.12 writes no LLVM IR of the kernels of a CPU; jax 0.8 and 0.10 write it in any case.
    "xla_dump_emitter_re": "none",
}
# What the user's own XLA_FLAGS may have set for dumps of theirs: with it, modules would be left out of the folder.
_RESET: Final[Mapping[str, str]] = {
    "xla_dump_hlo_module_re": ".*",
    "xla_dump_hlo_pipeline_re": ".*",
    "xla_dump_max_hlo_modules": "-1",
    "xla_dump_compress_protos": "false",
    "xla_dump_hlo_as_text": "false",
    "xla_dump_hlo_as_long_text": "false",
    "xla_dump_hlo_as_html": "false",
    "xla_dump_hlo_as_dot": "false",
    "xla_dump_hlo_as_url": "false",
}
Flags = Mapping[str, str | bool | int | float]
"""Options of XLA by name, such as `{"xla_cpu_enable_fast_math": True}`."""


def written_flags(flags: Flags) -> dict[str, str]:
    """Return options of XLA as text. Raises InputError for a name that is none."""
    for name in flags:
        if not re.fullmatch(r"xla_\w+", name):
            raise InputError(
                f"{name!r} is no option of XLA.",
                why="The options of XLA begin with xla_, and have no dashes before.",
                cure='Write it as XLA does: xla_flags={"xla_cpu_enable_fast_math": True}.',
            )
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in flags.items()}


def dump_options(folder: str) -> dict[str, str]:
    """Return the options with which XLA writes the modules into a folder; none for ""."""
    if not folder:
        return {}
    own = os.environ.get("XLA_FLAGS", "")
    reset = {name: value for name, value in _RESET.items() if re.search(rf"--{name}\b", own)}
    return {"xla_dump_to": folder, **_OPTIONS, **reset}


def environment_flags(folder: str, flags: Mapping[str, str]) -> str:
    """Return options as XLA_FLAGS, for a compiler in another process, after those that are set already.

    folder: where XLA writes the modules; "" for none.
    """
    # The compilers of other machines have no emitters of the CPU.
    dumping = dump_options(folder)
    dumping.pop("xla_dump_emitter_re", None)
    own = " ".join(f"--{name}={value}" for name, value in {**dumping, **flags}.items())
    return f"{os.environ.get('XLA_FLAGS', '')} {own}".strip()


@contextmanager
def dump_folder() -> Generator[str]:
    """Return an empty folder that is deleted when the block ends, however it ends."""
    parent = str(_IN_MEMORY) if _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _MAX_BYTES else None
    prefix = f"costax-passes-{os.getpid()}-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as folder,
        guarded(folder),
    ):
        yield folder


def unreadable(folder: str) -> str:
    """Say why the dumped modules are not read: they are too large, or did not fit the disk; "" if they are fine."""
    sizes = [path.stat().st_size for path in Path(folder).iterdir()]
    nbytes = sum(sizes)
    if nbytes > _MAX_BYTES:
        return (
            f"The passes were not read: the modules that XLA wrote after them take {nbytes / 2**30:.1f} GiB, and "
            "costax reads up to 1 GiB. Those of a smaller program can be read: fewer layers, or a scan over layers."
        )
    # XLA goes on after a module that it could not write, and leaves a part of it.
    if shutil.disk_usage(folder).free < max([_LEAST_ROOM, *sizes]):
        return (
            f"The passes were not read: {str(Path(folder).parent)!r}, where XLA writes its modules after them, has no "
            "room. Set TMPDIR to a folder on a disk with room."
        )
    return ""
