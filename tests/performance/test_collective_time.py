"""The time of a collective, against the steps of a simulated ring or torus."""

from __future__ import annotations

import pytest

from costax.performance import collective_time

# The result is the same for every version of jax.
pytestmark = pytest.mark.once


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_rings_take_the_time_of_their_steps(n):
    # By simulation: in each of the steps every device sends a part of V / n over its one link.
    whole, rate = 1_000_000 * n, 1e9
    step = whole / n / rate
    assert collective_time.seconds("all-gather", whole, n, rate) == pytest.approx((n - 1) * step)
    assert collective_time.seconds("reduce-scatter", whole, n, rate) == pytest.approx((n - 1) * step)
    assert collective_time.seconds("all-reduce", whole, n, rate) == pytest.approx(2 * (n - 1) * step)


def test_two_directions_take_half_the_time():
    one = collective_time.seconds("all-reduce", 10**8, 8, 1e9)
    assert collective_time.seconds("all-reduce", 10**8, 8, 1e9, topology="bidirectional ring") == pytest.approx(one / 2)


def test_a_torus_uses_all_its_axes():
    one = collective_time.seconds("all-gather", 10**8, 16, 1e9, topology="torus", axes=1)
    assert collective_time.seconds("all-gather", 10**8, 16, 1e9, topology="torus", axes=2) == pytest.approx(one / 2)


def test_an_all_to_all_on_a_ring_passes_the_middle():
    n, whole, rate = 8, 8_000_000, 1e9
    # By counting: each device sends a part to each other one, the shorter way round.
    loads = dict.fromkeys(((i, d) for i in range(n) for d in (1, -1)), 0.0)
    for source in range(n):
        for target in range(n):
            ahead = (target - source) % n
            ways = (
                [(1, ahead)] if 2 * ahead < n else [(-1, n - ahead)] if 2 * ahead > n else [(1, ahead), (-1, n - ahead)]
            )
            for direction, steps in ways if ahead else ():
                for step in range(steps):
                    loads[(source + direction * step) % n, direction] += whole / n / len(ways)
    found = collective_time.seconds("all-to-all", whole, n, rate, topology="bidirectional ring")
    assert found == pytest.approx(max(loads.values()) / rate)


def test_nobody_exchanges_with_himself():
    assert collective_time.seconds("all-reduce", 10**9, 1, 1e9) == 0


def test_an_unknown_collective_is_an_error():
    with pytest.raises(TypeError, match="broadcast"):
        collective_time.seconds("broadcast", 1, 2, 1e9)
