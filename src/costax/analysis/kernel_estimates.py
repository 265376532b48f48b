"""Cost estimates for authors of Pallas kernels: `pl.CostEstimate` from costax's counts.

A kernel is opaque to XLA. Its scheduler learns from `pl.pallas_call(..., cost_estimate=...)` how long the kernel may
take and what may run beside it; without an estimate a kernel is as good as free.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from costax import _jax
from costax._jax import pytrees
from costax.analysis.analyze import analyze
from costax.core.polynomial import Polynomial
from costax.errors import CostaxError, InputError


def cost_estimate(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a function that takes the arguments of `fn` and returns its `pl.CostEstimate`. Nothing is executed.

    The arguments of the function are those of `fn`, as arrays, traced values or shapes, so it works inside `jax.jit`:
    `pl.pallas_call(kernel, ..., cost_estimate=costax.cost_estimate(reference)(x, y))(x, y)`. FLOPs and
    transcendentals are those of the Analysis. `bytes_accessed` has the bytes of all operands and results, each once,
    and `remote_bytes_transferred` those that collectives and remote copies send.

    Args:
        fn: What the kernel computes, such as its reference in plain jax, or a function that calls the kernel.
        options: As for `costax.analyze`.

    Raises InputError if a count is a symbol, MissingRuleError for a primitive without a rule.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((4, 8), "float32")
    >>> cost_estimate(lambda x: jnp.exp(x) + 1)(x)
    CostEstimate(flops=32, transcendentals=32, bytes_accessed=256, remote_bytes_transferred=0)
    """

    def estimate(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = pytrees.flatten((args, kwargs))
        args, kwargs = pytrees.unflatten(tree, map(pytrees.shaped, leaves))
        analysis = analyze(fn, **options)(*args, **kwargs)
        results = _jax.opened(analysis.program.jaxpr).outvars
        operands = [operand for _, operand in analysis.inputs] + [_jax.operand(var.aval) for var in results]
        total = analysis.total
        counts = {
            "FLOPs": total.flops,
            "transcendentals": total.transcendentals,
            "bytes": sum(operand.nbytes for operand in operands),
            "bytes sent": total.collective_bytes,
        }
        for name, count in counts.items():
            if isinstance(count, Polynomial):
                raise InputError(
                    f"The {name} of `{analysis.name}` are the formula {count}, and a cost estimate is a number.",
                    why="A size is a symbol, or the program does not fix how often a loop runs.",
                    cure="Pass concrete shapes, and trip counts with trips={...}.",
                )
        return _jax.pallas_cost_estimate(*counts.values())

    return estimate


def with_cost_estimates(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` with a cost estimate for every `pallas_call` that has none; it computes the same.

    The estimate is that of `cost_estimate` for the kernel with its operands. A kernel whose costs are not numbers, such
    as one whose grid depends on data, stays as it is. Apply it outside of `jax.grad` and inside of `jax.jit`:
    `jax.jit(costax.with_cost_estimates(jax.grad(loss)))`; kernels of a gradient that is taken later keep theirs.
    Arguments that are no arrays or numbers are constants of the call.

    Args:
        fn: A function that calls Pallas kernels.
    """

    @wraps(fn)
    def function(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = pytrees.flatten((args, kwargs))
        positions = [i for i, leaf in enumerate(leaves) if pytrees.is_array(leaf)]

        def of_arrays(*arrays: Any) -> Any:
            given = dict(zip(positions, arrays, strict=True))
            args, kwargs = pytrees.unflatten(tree, [given.get(i, leaf) for i, leaf in enumerate(leaves)])
            return fn(*args, **kwargs)

        arrays = [leaves[i] for i in positions]
        jaxpr, results = _jax.closed_jaxpr(of_arrays, arrays)
        return _jax.evaluated(_jax.with_kernel_estimates(jaxpr, _of_kernel), arrays, results)

    return function


def _of_kernel(eqn: Any) -> Any:
    """Return the cost estimate of a `pallas_call`, or None if its costs are not numbers."""
    operands = [pytrees.shaped(var.aval) for var in eqn.invars]
    try:
        return cost_estimate(lambda *values: _jax.bind(eqn, values))(*operands)
    except CostaxError:
        return None
