"""cuDNN's fused attention without a GPU: jax checks the library and the GPU while it traces the function."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

# The newest limits that jax knows of: cuDNN 9.12, and a GPU of compute capability 9.0, where heads of 256 are possible.
_VERSION: Final = 91200
_CAPABILITY: Final = (9, 0)


def _is_at_least(capability: str) -> bool:
    return tuple(map(int, capability.split("."))) <= _CAPABILITY


def _is(capability: str) -> bool:
    return tuple(map(int, capability.split("."))) == _CAPABILITY


_ASSUMED: Final[Mapping[str, Callable[..., Any]]] = {
    "check_cudnn_version": lambda: _VERSION,
    "check_compute_capability": _is_at_least,
    "is_cuda_compute_capability_equal": _is,
}
# Every thread has a value of its own, so that jax's checks answer other threads as they always do.
_PRESENT: Final[ContextVar[bool]] = ContextVar("cudnn_present", default=False)


@contextmanager
def assumed_present() -> Generator[None]:
    """Let jax trace `dot_product_attention(implementation="cudnn")` where no cuDNN is installed, as if for an H100.

    Only this thread's traces in this context assume it. Where cuDNN is installed, jax's own checks stay. jax has no
    public switch; where its internals have changed, they stay too, and jax says that it did not find cuDNN.
    """
    try:
        from jax._src.cudnn import fused_attention_stablehlo as checks
    except ImportError:
        yield
        return
    if getattr(checks, "cuda_versions", None) is not None:
        yield
        return
    for name, assumed in _ASSUMED.items():
        check = getattr(checks, name, None)
        if check is not None and not hasattr(check, "assumed_by_costax"):
            setattr(checks, name, _assuming(check, assumed))
    token = _PRESENT.set(True)
    try:
        yield
    finally:
        _PRESENT.reset(token)


def _assuming(check: Callable[..., Any], assumed: Callable[..., Any]) -> Callable[..., Any]:
    """Return jax's check, which in the context `assumed_present` answers as for an H100."""

    @wraps(check)
    def answer(*args: Any, **kwargs: Any) -> Any:
        return (assumed if _PRESENT.get() else check)(*args, **kwargs)

    answer.assumed_by_costax = True  # type: ignore[attr-defined]
    return answer
