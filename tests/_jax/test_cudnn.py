"""Traces of cuDNN's attention without a GPU: only the thread that traces for costax assumes cuDNN."""

import threading

import jax
import jax.numpy as jnp
import pytest

import costax
from costax import _jax

checks = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
pytestmark = pytest.mark.skipif(checks.cuda_versions is not None, reason="cuDNN is installed here")


def attention(length):
    """Return an attention of a length that no other test has traced, and its argument: jax caches traces."""
    shape = jax.ShapeDtypeStruct((2, length, 4, 64), jnp.bfloat16)
    return (lambda q: jax.nn.dot_product_attention(q, q, q, implementation="cudnn")), shape


def test_another_thread_sees_the_error_of_jax_while_one_assumes_cudnn():
    inside, done = threading.Event(), threading.Event()
    errors = []

    def other():
        inside.wait(60)
        fn, shape = attention(192)
        try:
            jax.make_jaxpr(fn)(shape)
        except RuntimeError as error:
            errors.append(str(error))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    fn, shape = attention(320)
    with _jax.assumed_present():
        inside.set()
        done.wait(60)
        assert "dot_product_attention_fwd" in str(jax.make_jaxpr(fn)(shape))
    thread.join()
    assert errors == ["cuDNN is not detected."]


def test_the_checks_of_jax_are_as_before_after_an_analysis():
    fn, shape = attention(448)
    assert costax.analyze(fn)(shape).total.macs == 2 * 2 * 4 * 448 * 448 * 64
    fn, shape = attention(576)
    with pytest.raises(RuntimeError, match="cuDNN is not detected"):
        jax.make_jaxpr(fn)(shape)


def test_the_checks_are_wrapped_once():
    with _jax.assumed_present():
        wrapped = checks.check_cudnn_version
    with _jax.assumed_present(), _jax.assumed_present():
        assert checks.check_cudnn_version is wrapped
