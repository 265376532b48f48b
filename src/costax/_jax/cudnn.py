"""cuDNN's fused attention without a GPU: jax checks the library and the GPU while it traces the function."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

# The newest limits that jax knows of: cuDNN 9.12, and a GPU of compute capability 9.0, where heads of 256 are possible.
_VERSION: Final = 91200
_CAPABILITY: Final = (9, 0)


def _is_at_least(capability: str) -> bool:
    return tuple(map(int, capability.split("."))) <= _CAPABILITY


def _is(capability: str) -> bool:
    return tuple(map(int, capability.split("."))) == _CAPABILITY


@contextmanager
def assumed_present() -> Generator[None]:
    """Let jax trace `dot_product_attention(implementation="cudnn")` where no cuDNN is installed, as if for an H100.

    Where cuDNN is installed, jax's own checks stay. jax has no public switch; where its internals have changed, they
    stay too, and jax says that it did not find cuDNN.
    """
    try:
        from jax._src.cudnn import fused_attention_stablehlo as checks
    except ImportError:
        yield
        return
    if getattr(checks, "cuda_versions", None) is not None:
        yield
        return
    assumed: dict[str, Any] = {
        "check_cudnn_version": lambda: _VERSION,
        "check_compute_capability": _is_at_least,
        "is_cuda_compute_capability_equal": _is,
    }
    before = {name: getattr(checks, name) for name in assumed if hasattr(checks, name)}
    for name in before:
        setattr(checks, name, assumed[name])
    try:
        yield
    finally:
        for name, check in before.items():
            setattr(checks, name, check)
