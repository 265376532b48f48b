"""A cost interpreter from scratch: count the cost of a JAX program, in one file that takes ten minutes to read.

python docs/essay/cost_interpreter.py
"""

from collections import Counter
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

# 1. A table of rules: the cost of one equation, from its shapes and parameters.

RULES = {}


def rule(*names):
    """Register a function of an equation as the rule of some primitives."""

    def register(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def size(var):
    """Return the number of elements of a variable."""
    return prod(var.aval.shape)


@rule("dot_general")
def dot_general(eqn):
    """Each output element is a sum of k products: one multiply-accumulate for each."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    lhs, _ = eqn.invars
    k = prod(lhs.aval.shape[axis] for axis in contracted)
    return Counter(macs=size(eqn.outvars[0]) * k)


@rule("add", "sub", "mul", "div", "neg", "max", "min", "add_any", "integer_pow", "square")
def elementwise(eqn):
    """One operation for each output element."""
    return Counter(arithmetic=size(eqn.outvars[0]))


@rule("exp", "log", "tanh", "logistic", "rsqrt", "sqrt", "erf", "sin", "cos")
def transcendental(eqn):
    """One transcendental for each output element, as XLA counts them."""
    return Counter(transcendentals=size(eqn.outvars[0]))


@rule("reduce_sum", "reduce_max")
def reduction(eqn):
    """Reducing n elements to one takes n - 1 operations."""
    return Counter(arithmetic=size(eqn.invars[0]) - size(eqn.outvars[0]))


# A free primitive is listed by name. A primitive in no table is an error.
@rule(
    *("reshape", "broadcast_in_dim", "transpose", "squeeze", "slice", "concatenate", "stop_gradient", "copy"),
    *("select_n", "convert_element_type", "iota", "gt", "lt", "eq", "ge", "split"),
)
def free(eqn):
    """Moves, compares or selects values: no arithmetic."""
    return Counter()


# 2. A second table: the jaxprs that an equation runs, and how often each one runs.

BODIES = {
    "jit": lambda eqn: [(eqn.params["jaxpr"], 1)],
    "closed_call": lambda eqn: [(eqn.params["call_jaxpr"], 1)],
    "custom_jvp_call": lambda eqn: [(eqn.params["call_jaxpr"], 1)],
    "custom_vjp_call": lambda eqn: [(eqn.params["call_jaxpr"], 1)],
    "remat2": lambda eqn: [(eqn.params["jaxpr"], 1)],
    "checkpoint": lambda eqn: [(eqn.params["jaxpr"], 1)],
    "scan": lambda eqn: [(eqn.params["jaxpr"], eqn.params["length"])],
}


# 3. The walker: all recursion of the interpreter.


def walk(jaxpr, scope=""):
    """Yield (scope, primitive, cost) of every equation that a jaxpr runs."""
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = eqn.primitive.name
        path = "/".join(part for part in (scope, str(eqn.source_info.name_stack)) if part)
        if name in BODIES:
            for body, times in BODIES[name](eqn):
                for inner, primitive, cost in walk(body, path):
                    yield inner, primitive, Counter({kind: times * count for kind, count in cost.items()})
        elif name in RULES:
            yield path, name, RULES[name](eqn)
        else:
            raise KeyError(f"no rule says what {name} costs: {eqn}")


# 4. The entry point: shapes in, numbers out. Nothing is executed, and no array is allocated.


def analyze(function, *shapes):
    """Return (total, by scope) of a function."""
    total, by_scope = Counter(), {}
    for scope, _, cost in walk(jax.make_jaxpr(function)(*shapes)):
        total.update(cost)
        by_scope.setdefault(scope, Counter()).update(cost)
    return total, by_scope


# 5. A program to count.


def attention(x, w):
    """Return attention over the rows of x, three times over."""

    def layer(x, _):
        with jax.named_scope("project"):
            q, k, v = jnp.split(x @ w, 3, axis=-1)
        with jax.named_scope("mix"):
            return jax.nn.softmax(q @ k.T) @ v, None

    return lax.scan(layer, x, None, length=3)[0]


if __name__ == "__main__":
    f32 = jnp.float32
    total, by_scope = analyze(attention, jax.ShapeDtypeStruct((128, 64), f32), jax.ShapeDtypeStruct((64, 192), f32))
    for scope, cost in by_scope.items():
        print(f"{scope or '(no scope)':<12} {dict(cost)}")
    print(f"{'total':<12} {dict(total)}, FLOPs {2 * total['macs'] + total['arithmetic']:,}")
