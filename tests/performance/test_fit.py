"""Whether a program fits into the memory of a device, and what to change where it does not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.errors import InputError

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

f32 = costax.spec


def analysis(fn, *args, **options):
    return costax.analyze(fn, **options)(*args)


def chain(x, w):
    for _ in range(4):
        x = lax.tanh(lax.dot(x, w))
    return x


def test_a_program_that_fits_says_so_with_its_margin():
    found = costax.fits(analysis(chain, f32("f32[64,64]"), f32("f32[64,64]")), "v5e")
    assert found
    assert found.margin == found.room - found.needed
    assert str(found).startswith("yes")


def test_one_that_does_not_fit_says_what_to_change():
    def loss(w, x):
        return chain(x, w).sum()

    args = f32("f32[20000,20000]"), f32("f32[200000,20000]")
    found = costax.fits(analysis(jax.grad(loss), *args), "l4")
    assert not found
    assert found.devices > 1
    assert any("checkpoint" in change.what for change in found.changes)
    assert str(found).startswith("no")


def layers_of(batch):
    def step(w, x):
        def loss(w):
            return jnp.mean(lax.scan(lambda h, a: (jnp.tanh(h @ a), None), x, w)[0] ** 2)

        return w - 0.1 * jax.grad(loss)(w)

    args = f32("f32[16,16384,16384]"), f32(f"f32[{batch},16384]")
    return costax.fits(costax.analyze(jax.jit(step, donate_argnums=0), params_argnums=0)(*args), "v5e")


def halving(found):
    return [change.saves for change in found.changes if change.what == "halve the batch"]


def test_half_of_the_batch_saves_what_the_smaller_program_no_longer_needs():
    large, small = layers_of(4096), layers_of(2048)
    assert halving(large) == [pytest.approx(large.needed - small.needed, rel=0.06)]
    # The gradients are most of the temporaries, and do not grow with the batch.
    assert halving(layers_of(64)) == []


def test_a_program_without_a_batch_is_not_told_to_halve_it():
    spec = f32("f32[50000,50000]")
    assert halving(costax.fits(analysis(lambda a: jnp.linalg.norm((a @ a) @ (a @ a.T)), spec), "v5e")) == []
    two = costax.analyze(lambda w, x, y: (x @ w) + y, params_argnums=0)
    assert halving(costax.fits(two(f32("f32[9,9]"), f32("f32[90000,9]"), f32("f32[1,9]")), "v5e")) == []


def test_a_device_without_a_memory_figure_is_an_error():
    with pytest.raises(LookupError, match="has no memory capacity"):
        costax.fits(analysis(chain, f32("f32[4,4]"), f32("f32[4,4]")), "x86-generic")


def test_the_former_name_of_unmodelled_warns_and_works():
    fit = costax.fits(costax.analyze(jax.numpy.linalg.eigh)(f32("f32[16,16]")), "v5e")
    assert fit.unmodelled, "the workspace of an eigendecomposition is not known"
    with pytest.deprecated_call(match="unmodelled"):
        assert fit.doubts == fit.unmodelled


def test_an_answer_that_the_estimate_cannot_give_is_left_to_the_compiler():
    # 4 arrays of 10 GB: about what a GPU of 48 GB has.
    def many(x):
        a = jax.numpy.exp(x) @ x
        b = lax.sort(a, dimension=0)
        return (b @ a).sum()

    spec = f32("f32[50000,50000]")
    found = costax.fits(analysis(many, spec), "l40s")
    least, most = found.bounds
    assert least <= found.room < most
    assert found.answer == "unsure"
    assert not found
    assert str(found).startswith("too close to say")
    assert "--xla" in str(found) or "Try it" in str(found)


def test_the_answer_depends_on_the_bounds():
    small = costax.fits(analysis(chain, f32("f32[64,64]"), f32("f32[64,64]")), "h100")
    assert (small.answer, bool(small)) == ("yes", True)
    assert small.bounds[0] <= small.needed <= small.bounds[1]
    large = costax.fits(analysis(chain, f32("f32[400000,400000]"), f32("f32[400000,400000]")), "h100")
    assert (large.answer, bool(large)) == ("no", False)


def test_what_the_partitioner_gathers_is_a_doubt():
    found = analysis(chain, f32("f32[64,64]"), f32("f32[64,64]"))
    assert "what the partitioner gathers" not in found.memory_use().unmodelled
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x = jax.ShapeDtypeStruct((64, 64), "float32", sharding=sharding)
    use = analysis(jax.jit(chain), x, x).memory_use()
    assert "what the partitioner gathers" in use.unmodelled
    assert use.bounds[1] >= use.needed


@pytest.mark.parametrize(("rows", "share"), [((), 1), (("data",), 8)])
def test_a_device_holds_of_a_result_what_its_sharding_says(rows, share):
    mesh = jax.sharding.AbstractMesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    named, whole = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (rows, ()))
    step = jax.jit(lambda w, x: w - 0.1 * jax.grad(lambda w: jnp.sum((x @ w) ** 2))(w), out_shardings=named)
    data = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    w = jax.ShapeDtypeStruct((1024, 1024), "float32", sharding=whole)
    x = jax.ShapeDtypeStruct((64, 1024), "float32", sharding=data)
    parts = analysis(step, w, x).fits("h100:8").parts
    assert parts["results"] == 4 * 1024 * 1024 // share
    assert parts["arguments"] == 4 * 1024 * 1024 + 4 * 64 * 1024 // 8
    if jax.device_count() < 8:
        pytest.skip("XLA's own figure needs 8 devices")
    real = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    w, x = (
        jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=jax.sharding.NamedSharding(real, a.sharding.spec))
        for a in (w, x)
    )
    onto = jax.sharding.NamedSharding(real, named.spec)
    compiled = jax.jit(step.__wrapped__, out_shardings=onto).lower(w, x).compile().memory_analysis()
    assert compiled.output_size_in_bytes == parts["results"]


GIB = 2**30


def kept(size: str, sharded_over: int = 1):
    """A program that needs two arrays of a size, sharded over devices by their rows."""
    array = f32(size)
    if sharded_over > 1:
        mesh = jax.sharding.AbstractMesh((sharded_over,), ("data",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
        array = jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
    return analysis(lambda x: x * 2, array)


def test_several_devices_change_nothing_for_a_program_that_is_not_sharded():
    # Two arrays of 12 GiB, and 15.75 GiB of memory.
    alone, several = (costax.fits(kept("f32[3,1024,1048576]"), name) for name in ("v5e", "v5e-8"))
    assert (alone.answer, several.answer) == ("no", "no")
    assert (alone.needed, several.needed) == (24 * GIB, 24 * GIB)
    assert (alone.available, alone.evenly) == (None, None)
    assert (several.available, several.evenly) == (8, 3 * GIB)
    assert "runs on one of the 8 devices" in str(several)
    assert "would need 3 GiB or more, which fits" in str(several)
    assert "shard the program evenly over 2 devices or more" in str(several)
    assert "takes 2 devices" not in str(several)


def test_too_few_devices_are_not_recommended():
    found = costax.fits(kept("f32[300,1024,1048576]"), "v5e-8")
    # 2,400 GiB, of which one device holds 15.5 GiB.
    assert found.evenly == 300 * GIB
    assert f"does not fit: that takes {-(-2400 * GIB // found.room)} devices" in str(found)
    assert "shard the program" not in str(found)


def test_a_sharded_program_needs_the_share_of_one_device():
    found = costax.fits(kept("f32[32,1024,131072]", sharded_over=8), "v5e-8")
    assert found.needed == 2 * 16 * GIB // 8
    assert found.evenly is None
    assert "sharded over 8 of 8" in str(found)
    assert "8 have nothing to do" in str(costax.fits(kept("f32[32,1024,131072]", sharded_over=8), "v5e-16"))


def test_fewer_devices_than_the_mesh_has_are_refused():
    with pytest.raises(LookupError, match=r"sharded over 8 devices, and there are 4") as caught:
        costax.fits(kept("f32[32,1024]", sharded_over=8), "h100", devices=4)
    assert "mesh of 4" in str(caught.value)


def test_two_numbers_of_devices_that_differ_are_refused():
    with pytest.raises(InputError, match="devices is 4, and the name of the device says 8"):
        costax.fits(kept("f32[4,4]"), "v5e-8", devices=4)
    for wrong in (0, -1, True, 2.5):
        with pytest.raises(InputError, match="1 or more"):
            costax.fits(kept("f32[4,4]"), "v5e", devices=wrong)
