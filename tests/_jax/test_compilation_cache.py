"""jax's persistent compilation cache: the names of a module are those of its own program."""

import jax
import jax.numpy as jnp
import pytest
from jax._src import compilation_cache

import costax
from costax import _jax

X = jax.ShapeDtypeStruct((8, 8), "float32")
SETTINGS = {
    "jax_enable_compilation_cache": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture
def cache(tmp_path):
    before = {name: getattr(jax.config, name) for name in (*SETTINGS, "jax_compilation_cache_dir")}
    compilation_cache.reset_cache()
    for name, value in {**SETTINGS, "jax_compilation_cache_dir": str(tmp_path)}.items():
        jax.config.update(name, value)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def program(scope):
    def fn(x):
        with jax.named_scope(scope):
            return jnp.tanh(x @ x.T)

    return fn


def entries(cache):
    return {path.name for path in cache.iterdir() if path.name.endswith("-cache")}


def test_the_cache_gives_a_program_the_names_of_another_one(cache):
    """The control: jax itself mixes the two up."""
    jax.jit(program("first")).lower(X).compile()
    assert len(entries(cache)) == 1
    assert "second" not in jax.jit(program("second")).lower(X).compile().as_text()


@pytest.mark.parametrize("passes", [True, False])
def test_a_comparison_is_the_same_with_a_cache(cache, passes):
    for scope in ("first", "second", "second"):
        found = costax.compare(program(scope), passes=passes)(X)
        assert (found.passes is not None) == passes
        assert not found.unexplained
        assert scope in " ".join(found.compiled.by_scope())


def test_a_measured_program_has_its_own_names(cache):
    for scope in ("first", "second"):
        traced = jax.jit(program(scope)).trace(X)
        assert scope.encode() in _jax.Executable(traced, traced.jaxpr).hlo


def test_a_comparison_leaves_no_entry_that_nobody_can_use(cache):
    costax.compare(program("first"))(X)
    assert not entries(cache)
