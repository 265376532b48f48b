"""Files as modules: what a file holds, and who can turn it into the bytes of an `HloModuleProto`.

costax reads serialised modules itself. XLA parses HLO text and converts StableHLO, jax unpacks the files of
`jax.export`, each in a separate process, because a damaged file may end the process that reads it. jax is imported only
for these.
"""

from __future__ import annotations

import re
from pathlib import Path
from stat import S_ISREG
from typing import Final, NamedTuple

from costax.errors import HloError
from costax.hlo.compressed import unpacked
from costax.hlo.devices import of_hlo_text, of_stablehlo_text, with_devices
from costax.hlo.errors import malformed, not_hlo
from costax.hlo.executables import PICKLE, module_in
from costax.hlo.profiles import modules_of_profile
from costax.hlo.read import TAGS, buffer_assignment_in, opened, read_bytes
from costax.hlo.records import Module, text

# The largest size of a protobuf message.
_MAX_FILE_SIZE: Final = 2**31
_LISTED: Final = 20
_BYTECODE: Final = b"ML\xefR"
"""The first bytes of MLIR bytecode."""

# A line with the word HloModule, after comments; the first line of a computation, `ENTRY main {`, `%body {` or
# `%add (x: f32[], y: f32[]) -> f32[] {`; and an instruction, `%y = f32[8] tanh(f32[8] %x)`.
_HLO_MODULE: Final = re.compile(r"^\s*HloModule\b", re.MULTILINE)
_COMPUTATION: Final = re.compile(r"^\s*(?:ENTRY\b|%?[\w.\-]+\s*(?:\(.*->.*)?\{\s*(?://.*)?$)", re.MULTILINE)
_INSTRUCTION: Final = re.compile(
    r"^\s*(?:ROOT\s+)?%?[\w.\-]+\s*=\s*(?:\(|\w+\[)[^=]*[)\]}]\s*[a-z][\w\-]*\(", re.MULTILINE
)
_STABLEHLO: Final = re.compile(r"^\s*(?:module\b[^=]*\{|(?:func\.)?func\s+(?:public\s+|private\s+)?@)", re.MULTILINE)


class _Other(NamedTuple):
    """Another kind of file: how it begins, what it holds, and how to count that."""

    pattern: re.Pattern[str]
    what: str
    cure: str = ""


def _other(pattern: str, what: str, cure: str = "") -> _Other:
    return _Other(re.compile(pattern), what, cure)


_ENCODE: Final = "protoc --encode=xla.HloProto xla/service/hlo.proto < FILE > module.hlo.pb"
# Texts that XLA dumps or that users confuse with modules, by their beginning.
_OTHER_TEXTS: Final = (
    _other(r"(; ModuleID|source_filename|target datalayout)", "LLVM IR"),
    _other(r'\{\s*"schema"\s*:\s*"costax/', "a record of costax", "Show it: costax show FILE."),
    _other(r"\{ ?lambda\b", "a jaxpr as text", "Pass the program itself: costax analyze path/to/file.py:name."),
    _other(r"[{\[]", "JSON"),
    _other(
        r"(#[^\n]*\n|\s)*\w+\s*(:\s*[\"\d]|\{\s*\n?\s*\w+\s*[:{])",
        "a text proto",
        f"Encode it with the schema of XLA: {_ENCODE} (xla.HloModuleProto if it has no hlo_module). Or let XLA dump "
        "the module as text or serialised: XLA_FLAGS=--xla_dump_to=DIR --xla_dump_hlo_as_proto.",
    ),
)
_LOAD: Final = (
    "If it is an executable of jax, load it on the machine that it was compiled for and pass it: "
    "costax.analyze(jax.experimental.serialize_executable.deserialize_and_load(...))()."
)
_OTHER_BYTES: Final = {
    b"(\xb5/\xfd": ("zstd-compressed data", "Unpack it with unzstd."),
    b"\x7fELF": ("machine code", ""),
    b"PK\x03\x04": ("a zip archive", "Unpack it with unzip."),
}


def read_file(path: str | Path) -> Module:
    """Read a file with a module: what `module_of` accepts. Raises HloError for any other file."""
    return read_bytes(module_of(path))


def read_text(hlo: str) -> Module:
    """Read HLO text with the parser of the installed jaxlib. Raises HloError if the parser rejects the text."""
    return read_bytes(_parsed(hlo))


def module_of(path: str | Path) -> bytes:
    """Return the serialised `HloModuleProto` of a file.

    The file holds a serialised module, an `HloProto` or `HloSnapshot` that contains one, HLO text with or without a
    line HloModule, StableHLO as text or bytecode, what `jax.export.Exported.serialize` returned, or an executable of
    `jax.experimental.serialize_executable`, which need not be one of this machine; any of them may be compressed as gz
    or xz. Raises HloError for any other file, with the way to count what it holds.
    """
    return read_module_file(path).hlo


class ModuleFile(NamedTuple):
    """What a file holds: the serialised module, and what XLA wrote with it of the buffer assignment, or b""."""

    hlo: bytes
    buffer_assignment: bytes = b""


def read_module_file(path: str | Path) -> ModuleFile:
    """Return the module of a file, as `module_of` reads it, and the buffer assignment that an `HloProto` holds."""
    path = Path(path)
    contents = unpacked(_contents(path), str(path))
    start = contents[:4096]
    for prefix, (what, cure) in _OTHER_BYTES.items():
        if start.startswith(prefix):
            raise not_hlo(what, where=str(path), cure=cure)
    if _is_text(start):
        return ModuleFile(_from_text(text(contents), path))
    if start.startswith(_BYTECODE):
        return ModuleFile(_converted(contents))
    if (names := modules_of_profile(contents)) is not None:
        listed = f" of {len(names)} modules: {', '.join(names[:_LISTED])}{' ...' if len(names) > _LISTED else ''}"
        raise not_hlo(
            f"a profile{listed if names else ''}",
            where=str(path),
            cure=f"See the times of a module: costax join --trace {path} --module NAME. To count one alone, pass the "
            "file of it that XLA_FLAGS=--xla_dump_to=DIR writes.",
        )
    # A file of jax.export is a flatbuffer with bytecode in it; a module begins with a tag.
    if not start.startswith(TAGS) and _BYTECODE in contents:
        return ModuleFile(_converted(_unpacked(contents)))
    try:
        return ModuleFile(opened(contents)[0], buffer_assignment_in(contents))
    except HloError:
        if ".xplane.pb" in path.name:
            # A profile that is cut off still holds modules.
            cure = "Write the profile again, and see the times of its modules: costax join --trace FILE.xplane.pb."
            raise not_hlo("a damaged profile", where=str(path), cure=cure) from None
        if (inside := module_in(contents)) is not None:
            return ModuleFile(inside)
        if start.startswith(PICKLE):
            raise not_hlo("a pickle without a module that costax can read", where=str(path), cure=_LOAD) from None
        raise


def _from_text(hlo: str, path: Path) -> bytes:
    modules = len(_HLO_MODULE.findall(hlo))
    if modules > 1:
        raise not_hlo(
            f"{modules} modules in one text", where=str(path), cure="Write each module into a file of its own."
        )
    if modules:
        return _parsed(hlo)
    if _STABLEHLO.search(hlo):
        return _converted(hlo.encode())
    for other in _OTHER_TEXTS:
        if other.pattern.match(hlo.lstrip()):
            raise not_hlo(other.what, where=str(path), cure=other.cure.replace("FILE", str(path)))
    if _COMPUTATION.search(hlo):
        # XLA's parser reads computations without this line, too, but only those without a signature.
        return _parsed(
            f"HloModule {re.sub(r'[^A-Za-z0-9_.-]|^(?=[^A-Za-z_])', '_', path.name.partition('.')[0])}\n{hlo}"
        )
    if _INSTRUCTION.search(hlo):
        return _parsed(hlo)
    raise not_hlo("text without a line HloModule and without a computation", where=str(path))


def _is_text(start: bytes) -> bool:
    """Say whether bytes may be text; a proto contains bytes below 0x20, which text does not."""
    return bool(start) and not start.translate(None, bytes(range(32, 256)) + b"\t\n\r\f")


def _contents(file: Path) -> bytes:
    try:
        status = file.stat()
        # A device or a pipe may never end.
        contents = file.read_bytes() if S_ISREG(status.st_mode) and status.st_size <= _MAX_FILE_SIZE else None
    except (OSError, ValueError) as fault:
        raise HloError(
            f"{file.name} cannot be read: {getattr(fault, 'strerror', None) or fault}",
            where=str(file),
            cure="Check the path.",
        ) from fault
    if not S_ISREG(status.st_mode):
        raise HloError(f"{file.name} is not a file", where=str(file), cure="Pass a file that holds an HLO module.")
    if contents is None:
        raise malformed(f"{file.name} is larger than 2 GiB, the limit of a serialised module", where=str(file))
    return contents


def _parsed(hlo: str) -> bytes:
    from costax import _jax

    try:
        # XLA's parser drops how many devices run the module.
        return with_devices(_jax.hlo_from_untrusted_text(hlo), of_hlo_text(hlo))
    except _jax.XlaError as fault:
        raise malformed(f"XLA's parser rejects the text: {str(fault)[:400]}") from fault


def _converted(stablehlo: bytes) -> bytes:
    from costax import _jax

    try:
        hlo, attributes = _jax.hlo_from_untrusted_stablehlo(stablehlo)
        return with_devices(hlo, of_stablehlo_text(attributes))
    except _jax.XlaError as fault:
        raise HloError(
            f"XLA does not convert the StableHLO to HLO: {str(fault)[:400]}",
            why="costax counts StableHLO as the HLO module that XLA makes of it.",
            cure="Let jax write it: jax.jit(fn).lower(*args).as_text().",
        ) from fault


def _unpacked(exported: bytes) -> bytes:
    from costax import _jax

    try:
        return _jax.stablehlo_of_untrusted_export(exported)
    except _jax.XlaError as fault:
        raise HloError(
            f"jax.export.deserialize does not read the file: {str(fault)[-400:]}",
            why="The bytes contain StableHLO as in the files of jax.export.",
            cure="Write it again with the installed jax: jax.export.export(jitted)(*args).serialize(). The package "
            "flatbuffers must be installed.",
        ) from fault
