"""HLO modules as bytes, from text or from a stage, and XLA's own cost analysis of them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax

from costax._jax.stages import is_lowered

# A part whose annotations name less than it holds.
_api: Any = jax

XlaError: type[Exception] = _api.errors.JaxRuntimeError
"""What XLA raises, its HLO parser included."""


def _hlo() -> Any:
    """Return the module that holds HloModule: `jaxlib._hlo`, before 0.10 `jaxlib._jax`."""
    try:
        return importlib.import_module("jaxlib._hlo")
    except ModuleNotFoundError:
        return importlib.import_module("jaxlib._jax")


def hlo_from_text(text: str) -> bytes:
    """Return the serialised HloModuleProto of HLO text; XlaError if XLA's parser refuses it."""
    return _hlo().hlo_module_from_text(text).as_serialized_hlo_module_proto()


_PARSE = """
import sys
try:
    from jaxlib import _hlo
except ImportError:
    from jaxlib import _jax as _hlo
try:
    data = _hlo.hlo_module_from_text(sys.stdin.read()).as_serialized_hlo_module_proto()
except Exception as fault:
    sys.exit(str(fault))
sys.stdout.buffer.write(data)
"""


def hlo_from_foreign_text(text: str, *, seconds: float = 60.0) -> bytes:
    """As `hlo_from_text`, in a process of its own: XLA's parser ends the whole process on some malformed text.

    Raises XlaError with the parser's message, or with the last words of the process.
    """
    command = [sys.executable, "-c", _PARSE]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as fault:
        raise XlaError(f"the parser did not end within {seconds:g} seconds") from fault
    if done.returncode:
        raise XlaError(done.stderr.decode("utf-8", "replace").strip() or f"the parser died ({done.returncode})")
    return done.stdout


def hlo_of(stage: Any) -> bytes:
    """Return the serialised HloModuleProto of a `Lowered` (not optimised) or `Compiled` (optimised)."""
    if is_lowered(stage):
        return stage.compiler_ir("hlo").as_serialized_hlo_module_proto()
    return stage.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto()


def stablehlo_text(lowered: Any) -> str:
    """Return a `Lowered` as StableHLO text without its names and places in the source."""
    # jax made the module and has verified it: `as_text()` would do that again.
    return lowered.compiler_ir("stablehlo").operation.get_asm(enable_debug_info=False, assume_verified=True)


def xla_cost(hlo: bytes) -> Mapping[str, float]:
    """Return XLA's own cost analysis of a serialised module, by the CPU client; a property that is 0 is absent."""
    module = _hlo().HloModule.from_serialized_hlo_module_proto(hlo)
    xla: Any = importlib.import_module("jaxlib._jax")
    return xla.hlo_module_cost_analysis(_api.devices("cpu")[0].client, module)


def hlo_text(hlo: bytes) -> str:
    """Return a serialised module as XLA's text."""
    return _hlo().HloModule.from_serialized_hlo_module_proto(hlo).to_string()
