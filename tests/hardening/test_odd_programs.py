"""Programs and streams that no one should have, and that people have: one message each."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.errors import InputError

pytestmark = pytest.mark.once


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
