"""The only file that knows jax versions and jax internals.

Supported: jax 0.8.2 and newer. From 0.12 on `Jaxpr` and `ClosedJaxpr` are one class; before, a closed jaxpr
holds an open one and its constants. Everything here hides that.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jaxlib
from jax._src import core as _core
from jax._src import source_info_util as _sources
from jax._src.interpreters import partial_eval as _partial_eval
from jax.extend import core as _extend_core

from costax import dtypes
from costax.equation import Operand

Jaxpr = Any
"""An open jaxpr: something with `eqns`, `invars`, `constvars` and `outvars`."""
Var = Any
Eqn = Any

VERSION: tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", jax.__version__)[:3])


# Jaxprs.


def is_jaxpr(value: object) -> bool:
    """Say whether a value is a jaxpr, open or closed."""
    return isinstance(value, (_core.Jaxpr, _extend_core.ClosedJaxpr))


def opened(jaxpr: Any) -> Jaxpr:
    """Return the open jaxpr of an open or closed one."""
    return jaxpr if isinstance(jaxpr, _core.Jaxpr) else jaxpr.jaxpr


def constants(jaxpr: Any) -> Sequence[Any]:
    """Return the values of the constant variables, as far as the jaxpr holds them."""
    return () if not isinstance(jaxpr, _extend_core.ClosedJaxpr) else jaxpr.consts


def is_literal(atom: Any) -> bool:
    """Say whether an atom is a literal and not a variable."""
    return isinstance(atom, _extend_core.Literal)


def live_part(jaxpr: Any) -> Any:
    """Return what is left after the dead-code elimination that `jit` does before it lowers; effects and inputs stay."""
    outer = opened(jaxpr)
    live, _ = _partial_eval.dce_jaxpr(outer, [True] * len(outer.outvars), instantiate=True)
    consts = constants(jaxpr)
    return _extend_core.ClosedJaxpr(live, consts) if consts and not constants(live) else live


def operand(aval: Any) -> Operand:
    """Return the plain value of an abstract value; a reference is the array behind it, a token is empty."""
    inner = getattr(aval, "inner_aval", aval)
    shape = getattr(inner, "shape", None)
    dtype = getattr(inner, "dtype", None)
    if shape is None or dtype is None:
        return Operand((0,), "token")
    return Operand(tuple(shape), dtypes.short_name(_dtype_name(dtype)))


@cache
def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def integer_value(value: Any) -> int | None:
    """Return the value of a concrete integer scalar, else None. Nothing is computed on a device."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, _core.Tracer) or getattr(value, "shape", None) != ():
        return None
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return int(value) if kind in "iub" and kind else None


def params(eqn: Eqn) -> Mapping[str, Any]:
    """Return the parameters of an equation under the names of jax 0.10, whatever the version.

    `scan` has `num_consts` and `num_carry` (from 0.12 on it holds trees instead), `shard_map` has `manual_axes`.
    """
    found = eqn.params
    if eqn.primitive.name == "scan" and "ft_in" in found:
        consts, carry, _ = (len(list(part)) for part in found["ft_in"].unpack())
        return {**found, "num_consts": consts, "num_carry": carry}
    if "newly_manual_axes" in found:
        return {**found, "manual_axes": found["newly_manual_axes"]}
    return found


# Names and places.


def name_stack(eqn: Eqn) -> Any:
    """Return the name stack of an equation: an object that many equations share."""
    return eqn.source_info.name_stack


def name_stack_parts(stack: Any) -> list[tuple[bool, str]]:
    """Return (is a transform, name) for each part of a name stack, outermost first."""
    return [(isinstance(part, _sources.Transform), part.name) for part in stack.stack]


def source(eqn: Eqn) -> str:
    """Return the user's file and line of an equation as `path:line`, or "" where jax kept none."""
    traceback = eqn.source_info.traceback
    if traceback is None:
        return ""
    codes, instructions = traceback.raw_frames()
    for code, instruction in zip(codes, instructions, strict=True):
        found = _user_line(code, instruction)
        if found:
            return found
    return ""


@cache
def _user_line(code: Any, instruction: int) -> str:
    if not is_user_file(code.co_filename):
        return ""
    line = _sources.xla_client.Traceback.code_addr2line(code, instruction)
    return f"{code.co_filename}:{line}"


def is_user_file(filename: str) -> bool:
    """Say whether a file belongs to the user and not to jax."""
    return _sources.is_user_filename(filename)


# Stages.


def trace(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], static: Mapping[str, Any]) -> Any:
    """Trace a callable as `jit` does; a jitted one keeps its own static and donated arguments."""
    if not static and hasattr(fn, "trace") and hasattr(fn, "lower"):
        return fn.trace(*args, **kwargs)  # type: ignore[attr-defined]
    return jax.jit(fn, **static).trace(*args, **kwargs)


def is_traced(value: object) -> bool:
    """Say whether a value is a `jax.stages.Traced`."""
    return isinstance(value, jax.stages.Traced)


def is_lowered(value: object) -> bool:
    """Say whether a value is a `jax.stages.Lowered`."""
    return isinstance(value, jax.stages.Lowered)


def is_compiled(value: object) -> bool:
    """Say whether a value is a `jax.stages.Compiled`."""
    return isinstance(value, jax.stages.Compiled)


def leaf_paths(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) of a pytree."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


# HLO.

JAXLIB_VERSION: tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", jaxlib.__version__)[:3])

XlaError: type[Exception] = jax.errors.JaxRuntimeError
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
        return stage.compiler_ir("hlo").as_hlo_module().as_serialized_hlo_module_proto()
    return stage.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto()


def xla_cost(hlo: bytes) -> Mapping[str, float]:
    """Return XLA's own cost analysis of a serialised module, by the CPU client; a property that is 0 is absent."""
    module = _hlo().HloModule.from_serialized_hlo_module_proto(hlo)
    xla: Any = importlib.import_module("jaxlib._jax")
    cpu: Any = jax.devices("cpu")[0]
    return xla.hlo_module_cost_analysis(cpu.client, module)
