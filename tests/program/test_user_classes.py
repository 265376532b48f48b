"""Classes of the user as arguments: costax never rebuilds one with other leaves than arrays."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import costax

X = jax.ShapeDtypeStruct((4, 4), jnp.float32)
ARRAYS = (jax.Array, jax.ShapeDtypeStruct)


@jax.tree_util.register_pytree_node_class
class Checked:
    """A class whose `__init__` accepts arrays only."""

    def __init__(self, w):
        if not isinstance(w, ARRAYS) or w.ndim != 2:
            raise TypeError(f"expected a matrix, got {w!r}")
        self.w = w

    def tree_flatten(self):
        return (self.w,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Validated:
    """A dataclass that asserts in `__post_init__`."""

    w: jax.Array

    def __post_init__(self):
        assert self.w.ndim == 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class LossScale:
    """As `jmp.DynamicLossScale`: numbers and arrays, whose dtypes it looks at."""

    w: jax.Array
    period: int = 2000
    factor: float = 2.0

    def __post_init__(self):
        if not isinstance(self.w, ARRAYS) or not jnp.issubdtype(self.w.dtype, jnp.floating):
            raise TypeError(f"w must be floating, got {self.w!r}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    """A dataclass with a leaf that is no array."""

    w: jax.Array
    activation: str

    def __post_init__(self):
        if not isinstance(self.activation, str) or not isinstance(self.w, ARRAYS):
            raise TypeError(f"{self.activation!r} is no activation")


class Rebuilt(Exception):
    pass


@jax.tree_util.register_pytree_with_keys_class
class Once:
    """A class with named leaves that counts how often it is made."""

    made: int = 0

    def __init__(self, w):
        type(self).made += 1
        if not isinstance(w, ARRAYS):
            raise Rebuilt(repr(w))
        self.w = w

    def tree_flatten_with_keys(self):
        return ((jax.tree_util.GetAttrKey("w"), self.w),), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


CLASSES = {
    "Checked": (lambda: Checked(X), "0"),
    "Validated": (lambda: Validated(X), "w"),
    "LossScale": (lambda: LossScale(X), "w"),
    "Layer": (lambda: Layer(X, "tanh"), "w"),
    "Once": (lambda: Once(X), "w"),
}


def loss(model, x):
    return (model.w @ x).sum()


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("params_argnums", [None, 0])
def test_a_class_that_validates_is_counted(name, params_argnums):
    make, leaf = CLASSES[name]
    analysis = costax.analyze(loss, params_argnums=params_argnums)(make(), X)
    assert analysis.total.macs == 4 * 4 * 4
    paths = [path for path, _ in analysis.inputs]
    assert (paths[0], paths[-1]) == (f"0/0/{leaf}", "0/1")
    if params_argnums == 0:
        assert analysis.params == 4 * 4 + (2 if name == "LossScale" else 0)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"Layer"}))
@pytest.mark.parametrize("wrap", [jax.jit, jax.grad, jax.checkpoint], ids=["jit", "grad", "checkpoint"])
def test_it_is_counted_under_a_transformation(name, wrap):
    make, _ = CLASSES[name]
    fn = (lambda model, x: wrap(lambda w, x: (w @ x).sum())(model.w, x)) if wrap is jax.grad else wrap(loss)
    assert costax.analyze(fn)(make(), X).total.macs == 4 * 4 * 4


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"Layer"}))
def test_a_traced_program_has_the_names_of_its_leaves(name):
    make, leaf = CLASSES[name]

    def fn(model, *rest, **named):
        return loss(model, rest[0]["a"]["b"]) + named["scale"]["s"].sum()

    traced = jax.jit(fn).trace(make(), {"a": {"b": X}}, scale={"s": X})
    analysis = costax.analyze(traced, params_argnums=0)()
    paths = [path for path, _ in analysis.inputs if "period" not in path and "factor" not in path]
    assert paths == [f"0/0/{leaf}", "0/1/a/b", "1/scale/s"]
    assert analysis.params >= 4 * 4


def test_a_class_is_rebuilt_by_jax_alone():
    model = Once(X)
    Once.made = 0
    jax.jit(lambda model, x: (model.w @ x).sum()).trace(model, X)
    by_jax, Once.made = Once.made, 0
    costax.analyze(lambda model, x: (model.w @ x).sum())(model, X)
    assert Once.made == by_jax


@pytest.mark.parametrize("static", [{"static_argnums": (2, 3)}, {"static_argnames": ("mode", "n")}])
def test_static_arguments_stand_beside_leaves_that_are_no_arrays(static):
    def fn(model, x, mode, n):
        assert model.activation == "tanh"
        return model.w @ x if mode == "product" else x * n

    for mode, macs in (("product", 4 * 4 * 4), ("scale", 0)):
        arguments = ((mode, 3), {}) if "static_argnums" in static else ((), {"mode": mode, "n": 3})
        assert costax.analyze(fn, **static)(Layer(X, "tanh"), X, *arguments[0], **arguments[1]).total.macs == macs


def test_donation_is_known_without_rebuilding():
    donating = jax.jit(lambda model, x: (model.w @ x, x.sum()), donate_argnums=0)
    analysis = costax.analyze(donating)(Checked(X), X)
    kept = costax.analyze(jax.jit(lambda model, x: (model.w @ x, x.sum())))(Checked(X), X)
    assert analysis.peak_bytes <= kept.peak_bytes
