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


# What a process of its own does with a module that nobody vouches for; jaxlib alone starts in a third of a second.
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


def hlo_from_foreign_text(text: str, *, seconds: float = 60.0) -> bytes:
    """As `hlo_from_text`, in a process of its own: XLA's parser ends the whole process on some malformed text.

    Raises XlaError with the parser's message, or with the last words of the process.
    """
    return _foreign(_PARSE, text.encode(), seconds)


def xla_cost_of_foreign(hlo: bytes, *, seconds: float = 60.0) -> Mapping[str, float]:
    """As `xla_cost`, in a process of its own: XLA ends the whole process on some modules that break its rules.

    Raises XlaError with XLA's message, or with the last words of the process.
    """
    return json.loads(_foreign(_COST, hlo, seconds))


def _foreign(program: str, data: bytes, seconds: float) -> bytes:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=seconds, env=quiet)
    except subprocess.TimeoutExpired as fault:
        raise XlaError(f"it did not end within {seconds:g} seconds") from fault
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip()
        # What XLA says before it ends the process stands above the stack that it prints.
        fatal = next((line for line in words.splitlines() if line.startswith("F")), "")
        raise XlaError(fatal.partition("] ")[2] or words or f"the process died ({done.returncode})")
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
