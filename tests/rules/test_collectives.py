"""Collectives: what a simulated ring or direct exchange sends, and what jax's equations are charged."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax._src.lax import parallel
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

import costax

MESH = AbstractMesh((4, 2), ("x", "y"))
ROWS = P("x")


def analyzed(function, *, spec=ROWS, out=ROWS, shape=(16, 8), dtype="float32"):
    """Analyse a function on the shards of an array over an abstract mesh of 4 x 2 devices."""
    mapped = jax.shard_map(function, mesh=MESH, in_specs=spec, out_specs=out, check_vma=False)
    argument = jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(MESH, spec))
    with jax.sharding.use_abstract_mesh(MESH) if hasattr(jax.sharding, "use_abstract_mesh") else jax.set_mesh(MESH):
        return costax.analyze(mapped)(argument)


def sent(function, **options) -> int:
    """Return the bytes that one device sends."""
    return analyzed(function, **options).per_device.collective_bytes


class Ring:
    """n devices in a ring, which hand chunks of a vector to the next one; counts elements sent and additions."""

    def __init__(self, n, elements):
        self.n, self.size = n, elements // n
        self.parts = [[[1] * self.size for _ in range(n)] for _ in range(n)]
        self.sent, self.added = [0] * n, [0] * n

    def reduce_scatter(self):
        for step in range(self.n - 1):
            chunks = [(device - step) % self.n for device in range(self.n)]
            moving = [list(self.parts[device][chunk]) for device, chunk in enumerate(chunks)]
            for device, (chunk, values) in enumerate(zip(chunks, moving, strict=True)):
                to = (device + 1) % self.n
                self.parts[to][chunk] = [a + b for a, b in zip(self.parts[to][chunk], values, strict=True)]
                self.sent[device] += self.size
                self.added[to] += self.size

    def all_gather(self):
        for step in range(self.n - 1):
            chunks = [(device + 1 - step) % self.n for device in range(self.n)]
            moving = [list(self.parts[device][chunk]) for device, chunk in enumerate(chunks)]
            for device, (chunk, values) in enumerate(zip(chunks, moving, strict=True)):
                self.parts[(device + 1) % self.n][chunk] = values
                self.sent[device] += self.size


@pytest.fixture
def ring():
    """A ring of the 4 devices of axis x, each with the 4 x 8 elements of its shard."""
    return Ring(4, 4 * 8)


def test_an_all_reduce_sends_and_adds_what_a_ring_does(ring):
    ring.reduce_scatter()
    ring.all_gather()
    assert ring.parts == [[[4] * ring.size] * 4] * 4
    cost = analyzed(lambda x: lax.psum(x, "x"), out=P()).per_device
    assert [cost.collective_bytes] * 4 == [4 * elements for elements in ring.sent]
    assert [cost.flops] * 4 == ring.added


def test_a_reduce_scatter_sends_and_adds_what_a_ring_does(ring):
    ring.reduce_scatter()
    cost = analyzed(lambda x: lax.psum_scatter(x, "x", tiled=True)).per_device
    assert [cost.collective_bytes] * 4 == [4 * elements for elements in ring.sent]
    assert [cost.flops] * 4 == ring.added


def test_an_all_gather_sends_what_a_ring_does(ring):
    ring.all_gather()
    # The ring gathers chunks; here each device's chunk is its shard.
    assert sent(lambda x: lax.all_gather(x, "x"), shape=(4, 8)) == 4 * ring.sent[0]


def test_an_all_to_all_keeps_one_part_of_n():
    assert sent(lambda x: lax.all_to_all(x, "x", 0, 0, tiled=True)) == 4 * (4 * 8) * 3 // 4


def test_a_full_permutation_sends_everything_once():
    assert sent(lambda x: lax.ppermute(x, "x", [(i, (i + 1) % 4) for i in range(4)])) == 4 * 4 * 8


def test_a_permutation_counts_its_senders_alone():
    analysis = analyzed(lambda x: lax.ppermute(x, "x", [(0, 1), (1, 2), (3, 3)]))
    # Devices 0 and 1 of each of the two groups along x send; device 3 keeps what it has.
    assert analysis.total.collective_bytes == 2 * 2 * (4 * 4 * 8)


def test_groups_of_two_are_smaller_than_an_axis_of_four():
    groups = [[0, 1], [2, 3]]
    size = 4 * 4 * 8
    assert sent(lambda x: lax.psum(x, "x", axis_index_groups=groups)) == 2 * size * 1 // 2
    assert sent(lambda x: lax.all_gather(x, "x", axis_index_groups=groups)) == size


def test_several_axes_make_one_group():
    shard = 4 * (16 // 4) * (8 // 2)
    assert sent(lambda x: lax.psum(x, ("x", "y")), spec=P("x", "y"), out=P()) == 2 * shard * 7 // 8


def test_bytes_that_do_not_divide_are_rounded_up():
    # 3 elements of 2 bytes over 4 devices: 2 * 3/4 of 6 bytes, and 3/4 of 3 additions.
    cost = analyzed(lambda x: lax.psum(x, "x"), out=P(), shape=(12,), dtype="bfloat16").per_device
    assert (cost.collective_bytes, cost.flops) == (9, 3)


def test_a_maximum_compares_where_a_sum_adds():
    assert sent(lambda x: lax.pmax(x, "x"), out=P()) == sent(lambda x: lax.psum(x, "x"), out=P())


def test_an_axis_of_integers_has_no_flops():
    cost = analyzed(lambda x: lax.psum(x, "x"), out=P(), dtype="int32").per_device
    assert cost.flops == 0
    assert cost.of_kind("integer") == 4 * 8 * 3 // 4


def test_where_a_device_stands_is_free():
    assert analyzed(lambda x: x * lax.axis_index("x")).by_primitive()["axis_index"] == costax.Cost()


def test_the_mesh_sends_what_its_devices_send():
    analysis = analyzed(lambda x: lax.psum(x, "x"), out=P())
    assert analysis.total.collective_bytes == analysis.devices * analysis.per_device.collective_bytes


STARTED = {
    "all_gather": (lambda x: lax.all_gather(x, "x"), ("x",)),
    "all_to_all": (lambda x: lax.all_to_all(x, "x", 0, 0), ("x", 0, 0)),
    "ppermute": (lambda x: lax.ppermute(x, "x", [(0, 1), (1, 0)]), ("x", [(0, 1), (1, 0)])),
}


@pytest.mark.parametrize("name", STARTED)
def test_a_collective_in_two_halves_costs_what_the_whole_one_does(name):
    whole, args = STARTED[name]
    start = getattr(parallel, f"{name}_start", None) or pytest.skip("this jax has no collectives in two halves")

    def halves(x):
        handle = start(x, *args)
        return handle.done() if hasattr(handle, "done") else getattr(parallel, f"{name}_done")(handle)

    first, second = analyzed(halves).per_device, analyzed(whole).per_device
    assert first.collective_bytes == second.collective_bytes
    assert first.bytes_unfused == second.bytes_unfused


def test_one_of_n_keeps_what_it_broadcasts():
    assert sent(lambda x: lax.pbroadcast(x, "x", 0)) == 4 * (4 * 8) * 3 // 4


def test_a_ragged_exchange_counts_equal_parts():
    def exchanged(x):
        offsets, sizes = jnp.arange(4), jnp.ones(4, int)
        return lax.ragged_all_to_all(x, jnp.zeros((16, 8)), offsets, sizes, offsets, sizes, axis_name="x")

    assert sent(exchanged) == 4 * (4 * 8) * 3 // 4


def test_the_gradient_of_a_gather_is_a_reduce_scatter():
    def loss(x):
        return jnp.sum(lax.all_gather(x, "x", tiled=True) ** 2)

    parts = analyzed(jax.grad(loss)).by_primitive()
    assert parts["reduce_scatter"].collective_bytes == parts["all_gather"].collective_bytes


def test_a_mean_over_a_vmapped_axis_sends_nothing():
    function = jax.vmap(lambda x: lax.pmean(x, "batch"), axis_name="batch")
    assert costax.analyze(function)(costax.spec("f32[4,8]")).total.collective_bytes == 0


def test_a_mesh_of_forced_host_devices_is_counted_alike():
    program = """
        import jax
        import costax
        from jax.sharding import NamedSharding, PartitionSpec as P
        mesh = jax.make_mesh((4,), ("x",))
        f = jax.shard_map(lambda x: jax.lax.psum(x, "x"), mesh=mesh, in_specs=P("x"), out_specs=P())
        x = jax.ShapeDtypeStruct((16, 8), "float32", sharding=NamedSharding(mesh, P("x")))
        print(costax.analyze(f)(x).per_device.collective_bytes)
    """
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 2 * 4 * (4 * 8) * 3 // 4
