"""An exception of the user's function comes first and whole; only shapes that do not fit get advice on shapes."""

from __future__ import annotations

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import costax
from costax.errors import InputError

X = jax.ShapeDtypeStruct((4, 4), jnp.float32)
ADVICE = "Pass the shape and dtype"


def line_of(fn, text: str) -> str:
    """The file and line of a statement of a function."""
    lines, first = inspect.getsourcelines(fn)
    return f"{__file__}:{first + next(i for i, line in enumerate(lines) if text in line)}"


def looks_up(x):
    return {"a": x}["b"]


def divides(x):
    return x * (1 / 0)


def needs_a_gpu(x):
    raise RuntimeError("cuDNN is not detected.")


def has_no_attribute(x):
    return x.no_such_attribute


def two_lines(x):
    raise ValueError("the batch must be\ndivisible by 3")


def with_a_note(x):
    error = OSError("no licence")
    error.add_note("ask the licence server")
    raise error


def wrapped(x):
    try:
        return {}["inner"]
    except KeyError as error:
        raise RuntimeError("outer") from error


OWN = [
    (looks_up, "KeyError: 'b'", '["b"]'),
    (divides, "ZeroDivisionError: division by zero", "1 / 0"),
    (needs_a_gpu, "RuntimeError: cuDNN is not detected.", "raise"),
    (has_no_attribute, "AttributeError: DynamicJaxprTracer", "x.no_such"),
    (two_lines, "ValueError: the batch must be\ndivisible by 3", "raise"),
    (with_a_note, "OSError: no licence\nask the licence server", "raise"),
    (wrapped, "RuntimeError: outer", "raise RuntimeError"),
]


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize(("fn", "text", "statement"), OWN, ids=lambda value: getattr(value, "__name__", None))
def test_an_exception_of_the_function_comes_first_and_whole(fn, text, statement, jitted):
    with pytest.raises(InputError) as caught:
        costax.analyze(jax.jit(fn) if jitted else fn)(X)
    message = str(caught.value)
    assert message.startswith(text)
    assert caught.value.where == line_of(fn, statement)
    assert "traced with argument 0: f32[4,4]" in message
    assert ADVICE not in message
    assert type(caught.value.__cause__).__name__ == text.partition(":")[0]


def branches(x):
    if x.sum() > 0:
        return x
    return -x


def casts(x):
    return x * float(x.sum())


def counts(n):
    return jnp.arange(n)


def converts(x):
    return np.asarray(x) + 1


@pytest.mark.parametrize(
    ("fn", "argument", "statement"),
    [(branches, X, "if x"), (casts, X, "float("), (counts, 3, "arange"), (converts, X, "asarray")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_function_that_needs_values_is_told_how_to_be_traced(fn, argument, statement):
    with pytest.raises(InputError) as caught:
        costax.analyze(fn)(argument)
    message = str(caught.value)
    assert message.startswith(
        ("TracerBoolConversionError: ", "ConcretizationTypeError: ", "TracerArrayConversionError: ")
    )
    assert caught.value.where == line_of(fn, statement)
    assert "jax.lax.cond" in caught.value.cure
    assert "static_argnums" in caught.value.cure
    assert ADVICE not in message


def checks(x):
    if x.ndim != 3:
        raise ValueError(f"expected a shape of 3 axes, got {x.shape}")


def test_a_check_of_shapes_by_the_function_is_its_own_error_with_advice():
    with pytest.raises(InputError) as caught:
        costax.analyze(checks)(X)
    assert str(caught.value).startswith("ValueError: expected a shape of 3 axes, got (4, 4)")
    assert ADVICE in caught.value.cure


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (lambda x, y: x @ y, (X, jax.ShapeDtypeStruct((3, 4), jnp.float32))),
        (lambda x, y: x + y, (X, jax.ShapeDtypeStruct((3,), jnp.float32))),
        (lambda x: x.reshape(5, 5), (X,)),
        (lambda x, y: x, (X,)),
        (jnp.matmul, (X, jax.ShapeDtypeStruct((), jnp.float32))),
        (nn.Dense(3), (jax.ShapeDtypeStruct((), jnp.float32),)),
        (jax.jit(jnp.sin), ("relu",)),
    ],
    ids=["product", "sum", "reshape", "missing argument", "scalar", "module", "string"],
)
def test_shapes_that_do_not_fit_get_advice_on_shapes(fn, args):
    with pytest.raises(InputError, match="does not accept these arguments") as caught:
        costax.analyze(fn)(*args)
    assert ADVICE in str(caught.value)


def test_what_jax_cannot_differentiate_is_no_matter_of_shapes():
    def loss(x):
        return jax.lax.while_loop(lambda c: c.sum() < 3, lambda c: c * 2, x).sum()

    with pytest.raises(InputError) as caught:
        costax.analyze(jax.grad(loss))(X)
    assert str(caught.value).startswith("ValueError: Reverse-mode differentiation does not work")
    assert ADVICE not in str(caught.value)


@pytest.mark.parametrize("shape", [(8, 32, 32, 3), [8, 32, 32, 3]])
@pytest.mark.parametrize("fn", [lambda x: x.ndim, jnp.tanh, lambda x: x @ x])
def test_a_shape_instead_of_an_array_is_to_be_written_as_a_text(fn, shape):
    with pytest.raises(InputError) as caught:
        costax.analyze(fn)(shape)
    assert 'Write a shape as a text: "f32[8,32,32,3]".' in caught.value.cure


@pytest.mark.parametrize("argument", [(), (8, 3.0), {"n": 8}])
def test_what_is_no_shape_gets_no_advice_on_shapes_as_texts(argument):
    with pytest.raises(InputError) as caught:
        costax.analyze(lambda x: x.ndim)(argument)
    assert "as a text" not in caught.value.cure


def test_a_shape_that_the_error_is_not_about_gets_no_advice():
    with pytest.raises(InputError, match="ZeroDivisionError") as caught:
        costax.analyze(lambda x: 1 / 0)((8, 3))
    assert "as a text" not in caught.value.cure


def test_an_array_instead_of_a_pytree_gets_advice_on_pytrees():
    with pytest.raises(InputError) as caught:
        costax.analyze(lambda params: params["w"])("f32[8]")
    assert 'pass one whose leaves are shapes: {"w": "f32[8,128]"}' in caught.value.cure
