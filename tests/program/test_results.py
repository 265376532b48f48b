"""Calls that compute nothing, and results whose arrays jax does not see: an error, never a count of 0."""

import dataclasses
import functools
import gc
import warnings

import jax
import jax.numpy as jnp
import pytest

import costax
from costax.errors import InputError
from costax.program.targets import load_target

pytestmark = pytest.mark.once
X = jax.ShapeDtypeStruct((8, 8), "float32")


async def awaited(x, mode="m"):
    return x @ x


async def yields_later(x, mode="m"):
    yield x @ x


def yields(x, mode="m"):
    yield x @ x


class Awaited:
    async def __call__(self, x, mode="m"):
        return x @ x

    async def method(self, x, mode="m"):
        return x @ x


@dataclasses.dataclass
class Output:
    y: object


@dataclasses.dataclass(slots=True)
class Slots:
    y: object


LAZY = {
    "async": awaited,
    "async generator": yields_later,
    "generator": yields,
    "jitted": jax.jit(awaited),
    "partial": functools.partial(awaited),
    "callable": Awaited(),
    "method": Awaited().method,
}


@pytest.mark.parametrize("args", [(X,), (X, "m")], ids=["arrays", "with a constant"])
@pytest.mark.parametrize("name", LAZY)
def test_a_function_whose_call_computes_nothing_is_one_error_without_a_warning(name, args):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="computes nothing"):
            costax.analyze(LAZY[name])(*args)
        gc.collect()


def test_an_async_factory_is_one_error(tmp_path):
    file = tmp_path / "asynchronous.py"
    file.write_text("async def factory():\n    return (lambda x: x), (1.0,)\n")
    with pytest.raises(InputError, match=r"`factory` is an async function: .*asynchronous.py:1"):
        load_target(f"{file}:factory")


RESULTS = {
    "dataclass": lambda x, mode: Output(x @ x),
    "slots": lambda x, mode: {"out": (Slots(x @ x), x)},
    "nested": lambda x, mode: Output([Output(x @ x)]),
    "iterator": lambda x, mode: zip([x @ x], [x], strict=True),
    "coroutine": lambda x, mode: (awaited(x), x),
    "partial": lambda x, mode: functools.partial(jnp.dot, x @ x),
    "closure": lambda x, mode: lambda: x,
}


# jax itself warns of iterators in a result.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", RESULTS)
def test_arrays_in_an_object_that_jax_does_not_know_are_no_dead_code(name):
    with pytest.raises(InputError, match="does not know as a container of arrays"):
        costax.analyze(RESULTS[name])(X, "m")


def test_constants_beside_the_arrays_of_a_result_are_left_out():
    found = costax.analyze(lambda x, mode: (x @ x, mode, None, jnp.tanh, len, Output("label")))(X, "m")
    assert found.total.macs == 8**3
