"""Functions that several layers of a module call: their work is in each layer, against counts by hand and the jaxpr."""

from __future__ import annotations

import csv
import io

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax
from costax.hlo.module_analysis import HloCost, ModuleAnalysis
from costax.report.module_formats import as_csv

X = jax.ShapeDtypeStruct((16, 16), jnp.float32)
PRODUCT, ELEMENTS = 2 * 16**3, 16**2


def scope(name: str):
    return jax.named_scope(name)


@jax.jit
def act(x, w):
    with scope("inner"):
        return jnp.tanh(x @ w)


def two_layers(x, w):
    with scope("A"):
        y = act(x, w)
    with scope("B"):
        return act(y, w) + 1


def silu(x, w):
    with scope("A"):
        y = jax.nn.silu(x @ w)
    with scope("B"):
        return jax.nn.silu(y @ w)


@jax.jit
def looped(x, w):
    with scope("inner"):
        return lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0]


def loops(x, w):
    with scope("A"):
        y = looped(x, w)
    with scope("B"):
        y = looped(y, w)

    def iteration(c, _):
        with scope("C"):
            return looped(c, w), None

    return lax.scan(iteration, y, None, length=3)[0]


@jax.jit
def middle(x, w):
    with scope("first"):
        x = act(x, w)
    with scope("second"):
        return act(x, w)


@jax.jit
def outer(x, w):
    with scope("left"):
        x = middle(x, w)
    with scope("right"):
        return middle(x, w)


def nested(x, w):
    with scope("A"):
        x = outer(x, w)
    with scope("B"):
        return outer(x, w)


def module_of(f) -> ModuleAnalysis:
    return costax.analyze(jax.jit(f).lower(X, X))()


def products(costs: dict[str, HloCost]) -> dict[str, int]:
    """Return the FLOPs that run in each scope, without counters of loops and sums of elements."""
    whole = {name: cost.executed.flops // PRODUCT * PRODUCT for name, cost in costs.items()}
    return {name: flops for name, flops in whole.items() if flops}


def by_layer(f) -> dict[str, int]:
    """Return the FLOPs of products in each layer of the program itself, from the jaxpr."""
    return {name: 2 * int(cost.macs) for name, cost in costax.analyze(f)(X, X).by_scope().items() if cost.macs}


def total(costs) -> HloCost:
    found = HloCost()
    for cost in costs:
        found = found.plus(cost)
    return found


NESTED = {f"{a}/{b}/{c}/inner": PRODUCT for a in ("A", "B") for b in ("left", "right") for c in ("first", "second")}


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (two_layers, {"A/inner": PRODUCT, "B/inner": PRODUCT}),
        (silu, {"A": PRODUCT, "B": PRODUCT}),
        (loops, {"A/inner": 5 * PRODUCT, "B/inner": 5 * PRODUCT, "C/inner": 15 * PRODUCT}),
        (nested, NESTED),
    ],
)
def test_the_work_of_a_shared_function_is_in_each_layer_that_calls_it(f, expected):
    module = module_of(f)
    assert products(module.by_scope()) == expected == by_layer(f)
    kernels: dict[str, int] = {}
    for kernel in module.kernels():
        name = "/".join(kernel.scope)
        kernels[name] = kernels.get(name, 0) + sum(kernel.matmul.values()) * kernel.times
    assert {name: flops for name, flops in kernels.items() if flops} == expected
    for costs in (module.by_scope(), module.by_scope(1), module.by_opcode(), module.by_computation()):
        assert total(costs.values()) == HloCost(module.total, module.executed)
    rows = list(csv.DictReader(io.StringIO(as_csv(module))))
    for name in expected:
        written = sum(int(row["executed_flops"]) for row in rows if row["scope"] == name)
        assert written == module.by_scope()[name].executed.flops
    assert sum(int(row["counted_bytes"]) for row in rows) == module.total.bytes


def test_each_layer_has_the_transcendentals_and_the_sums_of_its_own_call():
    costs = module_of(two_layers).by_scope()
    assert {name: cost.counted[:2] for name, cost in costs.items()} == {
        "A/inner": (PRODUCT, ELEMENTS),
        "B/inner": (PRODUCT, ELEMENTS),
        "B": (ELEMENTS, 0),
    }


def test_a_layer_does_not_grow_because_xla_inlines_its_calls():
    lowered = jax.jit(silu).lower(X, X)
    before, after = (costax.analyze(stage)().counts_by_scope() for stage in (lowered, lowered.compile()))
    flops = [{name: x["executed_flops"] for name, x in counts.items() if name} for counts in (before, after)]
    assert flops[0] == flops[1]
    assert set(flops[0]) == {"A", "B"}


def test_forward_and_backward_calls_of_a_function_have_their_own_direction():
    @jax.jit
    def normed(x):
        return x * lax.rsqrt(jnp.mean(x * x))

    def step(x, w):
        def loss(w):
            with scope("A"):
                y = normed(x @ w)
            with scope("B"):
                return jnp.sum(normed(y @ w))

        return jax.grad(loss)(w)

    before = costax.analyze(jax.jit(step).lower(X, X))()
    places = {(kernel.scope, kernel.direction) for kernel in before.kernels() if kernel.transcendental}
    assert {(("A",), "forward"), (("B",), "forward")} <= places
    assert all(scope_ in (("A",), ("B",)) for scope_, _ in places)


CALLS = """HloModule m, num_partitions=4

add {{
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT s = f32[] add(a, b)
}}

layer {{
  x = f32[8] parameter(0)
  y = f32[8] tanh(x), metadata={{op_name="inner/tanh"}}
  ROOT r = f32[8] all-reduce(y), replica_groups={{{{0,1,2,3}}}}, to_apply=add, metadata={{op_name="inner/psum"}}
}}

ENTRY e {{
  p = f32[8] parameter(0), metadata={{op_name="x"}}
  n = f32[8] negate(p), metadata={{op_name="jit(f)/A/neg"}}
  c = f32[8] call(n), to_apply=layer, metadata={{op_name="jit(f)/A/jit(layer)"}}
  ROOT d = f32[8] call(c), to_apply=layer{second}
}}
"""


@pytest.mark.parametrize(
    ("second", "place"),
    [
        (', metadata={op_name="jit(f)/B/jit(layer)"}', "B/inner"),
        # The control: of a call without a name nothing tells the layer.
        ("", "inner"),
    ],
)
def test_a_call_without_a_name_leaves_the_scope_of_the_function_itself(tmp_path, second, place):
    path = tmp_path / "module.txt"
    path.write_text(CALLS.format(second=second))
    module = costax.analyze(str(path))()
    transcendentals = {name: cost.counted.transcendentals for name, cost in module.by_scope().items()}
    assert transcendentals == {"A": 0, "A/inner": 8, place: 8}
    assert sorted((x.scope, x.executed) for x in module.collectives) == sorted([("A/inner", 1), (place, 1)])


def test_calls_nested_without_bound_end_and_say_which_functions_have_no_scopes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("costax.hlo.metadata._MAX_PLACED", 10_000)
    levels = 40
    text = ["HloModule m\n", "level_0 {\n  x = f32[8] parameter(0)\n  ROOT y = f32[8] tanh(x)\n}\n"]
    for i in range(1, levels + 1):
        root, callee = "jit(f)/whole/" if i == levels else "", f"level_{i - 1}"
        calls = [
            f'  {name} = f32[8] call({of}), to_apply={callee}, metadata={{op_name="{root}{name}/jit({callee})"}}\n'
            for name, of in (("a", "x"), ("b", "a"))
        ]
        head = "ENTRY e" if i == levels else f"level_{i}"
        text.append(f"{head} {{\n  x = f32[8] parameter(0)\n{calls[0]}  ROOT{calls[1][1:]}}}\n")
    path = tmp_path / "module.txt"
    path.write_text("\n".join(text))
    module = costax.analyze(str(path))()
    assert module.total.transcendentals == 8 * 2**levels
    costs = module.by_scope()
    assert total(costs.values()) == HloCost(module.total, module.executed)
    assert all(name.startswith("whole") for name in costs)
    assert module.merged
    assert "too many calls to tell apart" in str(module)
    assert "too many calls" not in str(module_of(nested))
