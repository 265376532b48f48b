"""HLO modules as bytes, from text or from a stage, and XLA's own cost analysis of them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

import jax

from costax._jax.stages import is_lowered

# Untyped, because jax's annotations are incomplete.
_api: Any = jax

XlaError: type[Exception] = _api.errors.JaxRuntimeError
"""The exception that XLA raises, also its HLO parser."""


def _hlo() -> Any:
    """Return the module with HloModule: `jaxlib._hlo`, before jaxlib 0.10 `jaxlib._jax`."""
    try:
        return importlib.import_module("jaxlib._hlo")
    except ModuleNotFoundError:
        return importlib.import_module("jaxlib._jax")


def hlo_from_text(text: str) -> bytes:
    """Return the serialised HloModuleProto of HLO text. Raises XlaError if XLA's parser rejects the text."""
    return _hlo().hlo_module_from_text(text).as_serialized_hlo_module_proto()


# The program of a separate process that works on an untrusted module, within 8 GiB of memory. It imports only jaxlib,
# which takes a third of a second.
_FOREIGN: Final = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
except (ImportError, ValueError, OSError):
    pass
from jaxlib import _jax
try:
    from jaxlib import _hlo
except ImportError:
    _hlo = _jax
data = sys.stdin.buffer.read()
try:
    {step}
except Exception as fault:
    sys.exit(str(fault))
"""
_PARSE: Final = _FOREIGN.format(
    step="sys.stdout.buffer.write(_hlo.hlo_module_from_text(data.decode()).as_serialized_hlo_module_proto())"
)
_COST: Final = _FOREIGN.format(
    step="""from jaxlib import xla_client
    module = _hlo.HloModule.from_serialized_hlo_module_proto(data)
    cost = _jax.hlo_module_cost_analysis(xla_client.make_cpu_client(), module)
    sys.stdout.write(json.dumps(dict(cost)))"""
)
# A text or bytes of MLIR. jax lowers to HLO by the same conversion, which drops the attributes of the module. In a text
# they can be read; for bytecode jax's dialects are needed.
_CONVERT: Final = _FOREIGN.format(
    step="""hlo = _jax.mlir.mlir_module_to_xla_computation(data, False, False)
    attributes = ""
    if data.startswith(b"ML\\xefR"):
        from jax._src.interpreters import mlir
        with mlir.make_ir_context():
            attributes = str(mlir.ir.Module.parse(data).operation.attributes)
    sys.stdout.buffer.write(attributes.encode() + bytes(1) + hlo.as_serialized_hlo_module_proto())"""
)
_UNPACK: Final = _FOREIGN.format(
    step="""from jax import export
    sys.stdout.buffer.write(export.deserialize(bytearray(data)).mlir_module_serialized)"""
)


def hlo_from_untrusted_text(text: str, *, seconds: float = 60.0) -> bytes:
    """As `hlo_from_text`, in a separate process: XLA's parser aborts its process on some malformed text.

    Raises XlaError with the parser's message, or with the error output of the process.
    """
    return _run_isolated(_PARSE, text.encode(), seconds)


def hlo_from_untrusted_stablehlo(stablehlo: bytes, *, seconds: float = 120.0) -> tuple[bytes, str]:
    """Return the serialised HloModuleProto of StableHLO, text or bytecode, converted as jax does it.

    With it comes the StableHLO as text, of bytecode only the attributes of the module. Raises XlaError if XLA does not
    accept the module.
    """
    attributes, _, hlo = _run_isolated(_CONVERT, stablehlo, seconds).partition(b"\0")
    return hlo, attributes.decode() or stablehlo.decode("utf-8", "replace")


def stablehlo_of_untrusted_export(exported: bytes, *, seconds: float = 120.0) -> bytes:
    """Return the StableHLO bytecode in what `jax.export.Exported.serialize` wrote.

    Raises XlaError with the message of jax, also if the package flatbuffers is missing.
    """
    return _run_isolated(_UNPACK, exported, seconds)


def xla_cost_of_untrusted(hlo: bytes, *, seconds: float = 60.0) -> Mapping[str, float]:
    """As `xla_cost`, in a separate process: XLA aborts its process on some malformed modules.

    Raises XlaError with XLA's message, or with the error output of the process.
    """
    return json.loads(_run_isolated(_COST, hlo, seconds))


def out_of_memory(fault: Exception) -> bool:
    """Say whether XLA's process failed because it reached its memory limit."""
    return any(sign in str(fault) for sign in ("bad_alloc", "MemoryError", "out of memory", "exit code -9"))


def _run_isolated(program: str, stdin: bytes, seconds: float) -> bytes:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=seconds, env=quiet)
    except subprocess.TimeoutExpired as fault:
        raise XlaError(f"XLA did not finish within {seconds:g} seconds") from fault
    if done.returncode:
        errors = done.stderr.decode("utf-8", "replace").strip()
        # Before XLA aborts it prints a line that begins with F (fatal), then a stack trace.
        fatal = next((line for line in errors.splitlines() if line.startswith("F")), "")
        raise XlaError(fatal.partition("] ")[2] or errors or f"XLA's process ended with exit code {done.returncode}")
    return done.stdout


def hlo_of(stage: Any) -> bytes:
    """Return the serialised HloModuleProto of a `Lowered` (not optimised) or `Compiled` (optimised)."""
    if is_lowered(stage):
        return stage.compiler_ir("hlo").as_serialized_hlo_module_proto()
    return stage.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto()


def stablehlo_text(lowered: Any) -> str:
    """Return a `Lowered` as StableHLO text without operation names and source locations."""
    # jax has verified the module when it lowered the program; `as_text()` would verify it again.
    return lowered.compiler_ir("stablehlo").operation.get_asm(enable_debug_info=False, assume_verified=True)


def xla_cost(hlo: bytes) -> Mapping[str, float]:
    """Return XLA's own cost analysis of a serialised module, from the CPU client; properties that are 0 are absent."""
    module = _hlo().HloModule.from_serialized_hlo_module_proto(hlo)
    xla: Any = importlib.import_module("jaxlib._jax")
    return xla.hlo_module_cost_analysis(_api.devices("cpu")[0].client, module)


def hlo_text(hlo: bytes) -> str:
    """Return a serialised module as HLO text."""
    return _hlo().HloModule.from_serialized_hlo_module_proto(hlo).to_string()
