"""Programs and streams that no one should have, and that people have: one message each."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.errors import InputError
from costax.report import as_format

pytestmark = pytest.mark.once
X = jax.ShapeDtypeStruct((8, 8), "float32")


@pytest.mark.parametrize("fn", [lambda x: x, lambda x: x * 2, lambda x: x @ x.T])
def test_a_negative_extent_is_an_error_that_names_the_argument(fn):
    shape = jax.ShapeDtypeStruct((-3, 4), "float32")
    with pytest.raises(InputError, match=r"argument 0: f32\[-3,4\]"):
        costax.analyze(fn)(shape)


def test_an_extent_of_zero_is_none():
    assert costax.analyze(lambda x: jnp.tanh(x @ x.T))(jax.ShapeDtypeStruct((0, 4), "float32")).total == costax.Cost()


@pytest.mark.skipif(os.name != "posix", reason="closes a stream with a shell")
def test_a_closed_standard_output_is_told_as_what_it_is():
    command = f"{sys.executable} -m costax analyze jax.numpy:sin --input 'f32[4]' >&-"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["sh", "-c", command], env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("The output cannot be read or written: standard output is closed.")


def without_seconds(value):
    if isinstance(value, dict):
        return {name: without_seconds(part) for name, part in value.items() if name != "seconds"}
    return [without_seconds(part) for part in value] if isinstance(value, list) else value


def record(fn):
    comparison = costax.compare(fn, X)
    return without_seconds(json.loads(as_format("json", type(comparison))(comparison)))


def fn(x):
    return jnp.tanh(x @ x.T) * 1


def test_the_record_of_a_comparison_does_not_depend_on_what_else_the_process_compiled():
    alone = record(fn)
    jax.jit(lambda x: x + 1).lower(X).compile()
    assert record(fn) == alone
    assert alone["passes"]["name"] == "jit_fn"


def test_threads_compare_and_predict_as_one_thread_does():
    def answers(width):
        shape = jax.ShapeDtypeStruct((width, width), "float32")

        def program(x):
            with jax.named_scope(f"layer{width}"):
                return jnp.tanh(x @ x.T).sum()

        comparison = costax.compare(jax.grad(program), shape)
        prediction = costax.predict(comparison.jaxpr, "h100-sxm")
        return str(prediction), without_seconds(json.loads(as_format("json", type(comparison))(comparison)))

    widths = range(4, 12)
    alone = [answers(width) for width in widths]
    jax.clear_caches()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answers, widths)) == alone


def test_a_measurement_inside_of_a_trace_is_an_error_and_an_analysis_is_not():
    def step(x):
        assert costax.analyze(fn, x).total.macs == costax.compare(fn, x).jaxpr.total.macs == 8**3
        with pytest.raises(InputError, match="has no value yet"):
            costax.measure(fn)(x)
        return x

    jax.jit(step).trace(X)
