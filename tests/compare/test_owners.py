"""The equation of an instruction, by the marks in its name and the calls around it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.compare import marks
from costax.compare.owners import CallSiteIndex
from costax.program.call_sites import call_sites

X = costax.spec("f32[16]")


@pytest.fixture
def index():
    def fn(x):
        return lax.fori_loop(0, 3, lambda i, x: jnp.sin(jax.jit(jnp.tanh)(x)), x)

    analysis = costax.analyze(fn, loops_once=True)(X)
    sites = call_sites(analysis.tree, marks.mark(analysis.live).marks)
    return CallSiteIndex(tuple(sites)), {site.primitive: site for site in sites}


def test_an_unknown_mark_belongs_to_the_equation_around_it(index):
    found, sites = index
    for primitive in ("sin", "tanh"):
        assert found.find(sites[primitive].address) is sites[primitive]
        assert found.find((*sites[primitive].address, 999)) is sites[primitive]
    loop = next(site for site in sites.values() if site.node.is_loop)
    assert found.find((*loop.address, 999, 998)) is loop
    assert found.find((999,)) is None


def test_a_mark_that_inlining_dropped_may_be_missing(index):
    found, sites = index
    first, *_, last = sites["tanh"].address
    assert found.find((first, last)) is sites["tanh"]


def test_the_first_of_several_names_gives_the_marks():
    names = "jit(f)/~0~/~3~/add;jit(f)/~0~/~9~/mul"
    assert marks.address(names, ()) == (3,)
    assert marks.address("jit(g)/~5~/neg;jit(f)/~0~/~9~/mul", (1, 4)) == (1, 4, 5)


def test_each_of_two_equal_equations_has_its_own_work():
    # jax makes one function of both, whose names are those of the first.
    def fn(x, y):
        return lax.cumsum(x) * lax.cumsum(y)

    comparison = costax.compare(fn, passes=False)(X, X)
    sums = [site for site in comparison.lowered.instruction_costs if site.call_site is not None]
    by_address = {}
    for cost in sums:
        if cost.call_site.primitive == "cumsum":
            by_address[cost.call_site.address] = by_address.get(cost.call_site.address, 0) + cost.flops
    assert len(by_address) == 2
    assert len(set(by_address.values())) == 1
    (own,) = set(by_address.values())
    # Each of them alone.
    alone = costax.compare(lax.cumsum, passes=False)(X)
    assert own == alone.lowered.total.flops > 0
