"""Attribution by experiment: without an operation, its ledger is gone, and that of no other operation has changed.

A program is a list of operations, each in a scope of its own and with an operand of its own, inside a transform or a
loop. What an instruction belongs to is a claim; what XLA counts for the program without an operation is not.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import costax

# Other tests of attribution run on every version of jax; these would take a minute on each.
pytestmark = pytest.mark.once

X = jax.ShapeDtypeStruct((8, 8), jnp.float32)
Operation = Callable[[Any], Any]
OPERATIONS: dict[str, Operation] = {}


def operation(fn: Operation) -> Operation:
    """Register an operation from f32[8,8] to f32[8,8]."""
    OPERATIONS[fn.__name__] = fn
    return fn


@operation
def product(x):
    return x @ x.T


@operation
def product_in_bf16(x):
    half = x.astype(jnp.bfloat16)
    return (half @ half).astype(jnp.float32)


@operation
def einsum(x):
    return jnp.einsum("ij,kj,kl->il", x, x, x)


@operation
def matrix_vector(x):
    return x * (x @ x[0])[:, None]


@operation
def convolution(x):
    return lax.conv_general_dilated(x[None, None], x[None, None, :3, :3], (1, 1), "SAME")[0, 0]


@operation
def exponential(x):
    return jnp.exp(x) * x.T


@operation
def shared_exponential(x):
    # Each of its users is a fusion that may compute it again.
    rate = jnp.exp(x)
    return rate.T @ x + rate * x.sum()


@operation
def arithmetic(x):
    return (x + 2.0) * x - x / 3.0


@operation
def neutral(x):
    return jnp.sin(x * 1.0 + 0.0)


@operation
def merged(x):
    return jnp.tanh(x @ x) + jnp.cos(x @ x)


@operation
def negatives(x):
    negative = -jnp.sin(x)
    return negative * -jnp.cos(x)


@operation
def integers(x):
    return (lax.bitcast_convert_type(x, jnp.int32) * 3 + 1).astype(jnp.float32)


@operation
def powers(x):
    return x**5 + jnp.abs(x) ** 1.5


@operation
def reduction(x):
    return x - x.sum(0) + x.max(1)[:, None]


@operation
def running_sum(x):
    return jnp.cumsum(x, axis=0)


@operation
def running_maximum(x):
    return lax.cummax(x, axis=1)


@operation
def sorting(x):
    return jnp.sort(x, axis=0)


@operation
def argument_of_maximum(x):
    return jnp.where(x.argmax(1)[:, None] > 2, x, 2.0)


@operation
def largest(x):
    return x + lax.top_k(x, 2)[0].sum(1)


@operation
def gather(x):
    return x[jnp.clip(x[0].astype(jnp.int32), 0, 7)]


@operation
def scatter(x):
    return x.at[jnp.clip(x[0].astype(jnp.int32), 0, 7)].add(jnp.sin(x))


@operation
def pooling(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (3, 3), (1, 1), "SAME")


@operation
def softmax(x):
    return jax.nn.softmax(x)


@operation
def layer_norm(x):
    centred = x - x.mean(1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(1, keepdims=True) + 1e-5)


@operation
def gelu(x):
    return jax.nn.gelu(x, approximate=False)


@operation
def log_gamma(x):
    return lax.lgamma(x)


@operation
def transform(x):
    return jnp.fft.ifft(jnp.fft.fft(x)).real


@operation
def random_numbers(x):
    # A key of its own: of a constant one XLA would share a part of the work between two scopes.
    key = jax.random.wrap_key_data(lax.bitcast_convert_type(x[0, :2], jnp.uint32))
    return x * jax.random.normal(key, x.shape)


@operation
def factorisation(x):
    return jnp.linalg.cholesky(x)


@operation
def loop(x):
    return lax.scan(lambda carry, row: (jnp.tanh(carry @ x), carry * row), x, x)[1].sum(0) + x


@operation
def unrolled_loop(x):
    return lax.fori_loop(0, 4, lambda i, carry: jnp.sin(carry) + x, x, unroll=2)


@operation
def unbounded_loop(x):
    return lax.while_loop(lambda carry: carry.sum() < 9.0, lambda carry: carry * 2.0 + jnp.exp(x), x)


@operation
def branches(x):
    return lax.cond(x[0, 0] > 0.0, lambda x: x @ x, lambda x: x * 2.0, x)


@operation
def called_twice(x):
    @jax.jit
    def activation(x):
        return jnp.tanh(x) * x.sum()

    return activation(activation(x).T)


# The contexts: each takes a list of operations, by the name of their scope, and returns a function of as many arrays.


def scoped(name: str, fn: Operation, x: Any) -> Any:
    with jax.named_scope(name):
        return fn(x)


Chosen = Sequence[tuple[str, Operation]]


def side_by_side(chosen: Chosen):
    return lambda *xs: [scoped(*each, x) for each, x in zip(chosen, xs, strict=True)]


def chained(chosen: Chosen):
    # What stands between is a sorted array: XLA fuses nothing through it.
    def fn(*xs):
        y = xs[0]
        for each, x in zip(chosen, xs, strict=True):
            y = jnp.sort(scoped(*each, x), axis=1) + lax.sort(y)
        return y

    return fn


def in_a_scan(chosen: Chosen):
    def body(xs, _):
        return [scoped(*each, x) for each, x in zip(chosen, xs, strict=True)], None

    return lambda *xs: lax.scan(body, list(xs), None, length=3)[0]


def in_a_branch(chosen: Chosen):
    def fn(*xs):
        return lax.cond(xs[0][0, 0] > 0.0, lambda *xs: side_by_side(chosen)(*xs), lambda *xs: list(xs), *xs)

    return fn


def in_a_function_that_is_called_twice(chosen: Chosen):
    inner = jax.jit(side_by_side(chosen))
    return lambda *xs: inner(*inner(*xs))


def vectorised(chosen: Chosen):
    return lambda *xs: jax.vmap(side_by_side(chosen))(*(jnp.stack([x, x + 1.0]) for x in xs))


def differentiated(chosen: Chosen):
    def loss(xs):
        return sum(jnp.vdot(y, y) for y in side_by_side(chosen)(*xs))

    return lambda *xs: jax.grad(loss)(list(xs))


def differentiated_again(chosen: Chosen):
    def loss(xs):
        return sum(jnp.vdot(y, y) for y in jax.checkpoint(side_by_side(chosen))(*xs))

    return lambda *xs: jax.grad(loss)(list(xs))


def differentiated_in_a_scan(chosen: Chosen):
    def loss(xs):
        return sum(jnp.vdot(y, y) for y in in_a_scan(chosen)(*xs))

    return lambda *xs: jax.grad(loss)(list(xs))


def pushed_forward(chosen: Chosen):
    return lambda *xs: jax.jvp(side_by_side(chosen), xs, tuple(x.T for x in xs))


EVERY = list(OPERATIONS)
# Those with a derivative in both modes.
SMOOTH = [name for name in EVERY if name not in ("integers", "pooling", "unbounded_loop", "argument_of_maximum")]
EACH = 5


def five(names: Sequence[str], start: int) -> list[str]:
    """Return every n-th of the names, from a place."""
    step = len(names) // EACH
    return [names[(start + i * step) % len(names)] for i in range(EACH)]


CONTEXTS = {
    side_by_side: EVERY,
    chained: EVERY,
    in_a_scan: EVERY,
    in_a_branch: EVERY,
    in_a_function_that_is_called_twice: EVERY,
    vectorised: EVERY,
    differentiated: SMOOTH,
    differentiated_again: SMOOTH,
    differentiated_in_a_scan: SMOOTH,
    pushed_forward: SMOOTH,
}
PROGRAMS = {
    f"{context.__name__}-{start}": (context, five(names, (start * len(CONTEXTS) + number) % len(names)))
    for number, (context, names) in enumerate(CONTEXTS.items())
    for start in range(2)
}


def ledgers(found: costax.Comparison) -> dict[str, dict[str, list[Any]]]:
    """What XLA counts for each scope: before and after optimisation, and the change by each pass."""
    scopes: dict[str, dict[str, list[Any]]] = {}
    for stage in (found.lowered, found.compiled):
        sums: Counter[tuple[Any, int]] = Counter()
        for cost in stage.instruction_costs:
            sums[cost.call_site, 0] += cost.flops
            sums[cost.call_site, 1] += cost.transcendentals
        for call_site in sorted({site for site, _ in sums}, key=lambda site: site.address if site else ()):
            work = sums[call_site, 0], sums[call_site, 1]
            if any(work):
                name = call_site.primitive if call_site else "(none)"
                own = scopes.setdefault(scope_of(call_site.scope if call_site else ()), {})
                own.setdefault(stage.stage, []).append((name, *work))
    for (name, scope), pair in found.by_pass_and_scope().items():
        if any(pair):
            own = scopes.setdefault(scope_of(scope), {}).setdefault("passes", [])
            own.append((name, *pair))
    return {scope: {what: sorted(items) for what, items in own.items()} for scope, own in scopes.items()}


def scope_of(path: Sequence[str]) -> str:
    """Return the scope of the operation, whatever transforms or calls are around it; "" is outside of all."""
    found = re.search(r"operation_\w+", "/".join(path))
    return found[0] if found else ""


def compared(context: Any, names: Sequence[str], *, doubled: str = "") -> dict[str, dict[str, list[Any]]]:
    chosen = [(f"operation_{name}", OPERATIONS[name]) for name in (*names, *filter(None, [doubled]))]
    found = costax.compare(context(chosen))(*[X] * len(chosen))
    assert not found.unexplained
    assert found.compiled.attributed == 1
    return ledgers(found)


@functools.cache
def whole(program: str) -> dict[str, dict[str, list[Any]]]:
    context, names = PROGRAMS[program]
    return compared(context, names)


def total(ledger: dict[str, list[Any]], what: str) -> tuple[int, int]:
    items = ledger.get(what, ())
    return sum(item[-2] for item in items), sum(item[-1] for item in items)


def experiments(quick: Sequence[str], but: Sequence[str] = ()) -> list[Any]:
    """Return every program with each of its operations. quick: the programs whose experiments are no slow tests.

    The first program of each context is tried everywhere, the others by `nox -s long`.
    """

    def marks(program: str) -> list[pytest.MarkDecorator]:
        if program in quick:
            return []
        return [pytest.mark.once, pytest.mark.slow if program.endswith("-0") else pytest.mark.long]

    return [
        pytest.param(program, name, id=f"{program}-{name}", marks=marks(program))
        for program, (_, names) in PROGRAMS.items()
        for name in names
        if name not in but
    ]


def test_there_are_enough_experiments():
    assert len(experiments(())) >= 100
    assert len(PROGRAMS) >= 20
    assert {name for _, names in PROGRAMS.values() for name in names} == set(EVERY)


@pytest.mark.parametrize(("program", "name"), experiments(["side_by_side-0", "differentiated-0"]))
def test_without_an_operation_its_ledger_is_gone_and_no_other_changes(program, name):
    context, names = PROGRAMS[program]
    before = whole(program)
    after = compared(context, [other for other in names if other != name])
    left_out = f"operation_{name}"
    assert any(total(before[left_out], "lowered"))
    assert left_out not in after
    for scope in before.keys() - {left_out, ""}:
        assert after[scope] == before[scope], scope


# Two draws of random numbers count the same indices: in one loop XLA does that once for both.
@pytest.mark.parametrize(("program", "name"), experiments(["side_by_side-0"], but=["random_numbers"])[::2])
def test_an_operation_that_stands_twice_has_twice_the_ledger_and_no_other_changes(program, name):
    context, names = PROGRAMS[program]
    before = whole(program)
    after = compared(context, names, doubled=name)
    doubled = f"operation_{name}"
    for what in ("lowered", "compiled", "passes"):
        assert total(after[doubled], what) == tuple(2 * count for count in total(before[doubled], what)), what
    for scope in before.keys() - {doubled, ""}:
        assert after[scope] == before[scope], scope
