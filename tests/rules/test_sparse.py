"""Sparse arrays: the products of their stored elements, counted one by one with numpy."""

from __future__ import annotations

import itertools
from math import ceil, log2

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse
from jax.experimental.sparse import linalg

import costax
from costax.core.equation import Equation, Operand

RANDOM = np.random.default_rng(5)


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def total(fn, *args):
    return costax.analyze(fn)(*args).total


def elements(shape, nse) -> list[tuple[int, ...]]:
    """Different indices of a sparse array."""
    every = list(itertools.product(*map(range, shape)))
    return [every[i] for i in RANDOM.choice(len(every), nse, replace=False)]


def test_the_example_of_the_issue_and_its_gradients():
    def product(data, indices, x):
        return sparse.BCOO((data, indices), shape=(64, 32)) @ x

    args = f32(50), i32(50, 2), f32(32, 8)
    assert total(product, *args).macs == 50 * 8
    for argnums, products in ((0, 1), (2, 1), ((0, 2), 2)):
        gradient = jax.grad(lambda *args: product(*args).sum(), argnums)
        assert total(gradient, *args).macs == products * 50 * 8


@pytest.mark.parametrize("nse", [1, 4, 11])
@pytest.mark.parametrize(
    ("form", "columns"),
    [
        *itertools.product(["BCOO", "BCSR", "COO", "CSR"], [(), (1,), (3,)]),
        # COO and CSR are matrices of two axes.
        *itertools.product(["BCOO", "BCSR"], [(2, 3)]),
    ],
)
def test_a_product_takes_one_mac_for_each_stored_element_and_column(form, columns, nse):
    macs = sum(1 for _, _ in itertools.product(elements((6, 5), nse), itertools.product(*map(range, columns))))
    buffers = {
        "BCOO": (i32(nse, 2),),
        "BCSR": (i32(nse), i32(7)),
        "COO": (i32(nse), i32(nse)),
        "CSR": (i32(nse), i32(7)),
    }[form]

    def product(data, x, *indices):
        if form in ("COO", "CSR"):
            return getattr(sparse, form)((data, *indices), shape=(6, 5)) @ x
        matrix = getattr(sparse, form)((data, *indices), shape=(6, 5))
        multiply = sparse.bcoo_dot_general if form == "BCOO" else sparse.bcsr_dot_general
        return multiply(matrix, x, dimension_numbers=(((1,), (0,)), ((), ())))

    counted = total(product, f32(nse), f32(5, *columns), *buffers)
    assert (counted.macs, counted.flops) == (macs, 2 * macs)
    # Its tangents in both operands are two more products of the same kind.
    tangent = total(
        lambda data, x, *indices: jax.jvp(lambda d, y: product(d, y, *indices), (data, x), (data, x)),
        f32(nse),
        f32(5, *columns),
        *buffers,
    )
    assert tangent.macs == 3 * macs


def enumerated(shape, n_batch, indices, dense, rhs, dimension_numbers) -> int:
    """Pairs of a stored number and an element of rhs that agree in all contracted and batch indices."""
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    count = 0
    for batch in itertools.product(*map(range, shape[:n_batch])):
        for stored in indices:
            for block in itertools.product(*map(range, dense)):
                at = (*batch, *stored, *block)
                for other in itertools.product(*map(range, rhs)):
                    pairs = zip((*lhs_contract, *lhs_batch), (*rhs_contract, *rhs_batch), strict=True)
                    count += all(at[i] == other[j] for i, j in pairs)
    return count


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("shape", "n_batch", "dense", "rhs", "dimension_numbers"),
    [
        ((3, 4, 5), 1, (), (3, 5, 2), (((2,), (1,)), ((0,), (0,)))),
        ((3, 4, 5), 1, (), (5, 2), (((2,), (0,)), ((), ()))),
        ((3, 4, 5), 1, (), (2, 3, 5), (((0, 2), (1, 2)), ((), ()))),
        ((2, 3, 4, 5), 2, (), (3, 5, 2), (((3,), (1,)), ((1,), (0,)))),
        ((4, 5, 2), 0, (2,), (5, 3), (((1,), (0,)), ((), ()))),
        ((3, 4, 5, 2), 1, (2,), (4, 3), (((1,), (0,)), ((0,), (1,)))),
        ((4, 5), 0, (), (4, 5), (((0, 1), (0, 1)), ((), ()))),
    ],
)
def test_batches_and_blocks_count_what_they_multiply(shape, n_batch, dense, rhs, dimension_numbers, shared):
    nse = 3
    n_sparse = len(shape) - n_batch - len(dense)
    indices = elements(shape[n_batch : n_batch + n_sparse], nse)
    expected = enumerated(shape, n_batch, indices, dense, rhs, dimension_numbers)
    # Batches may share their elements: data and indices have extent 1 there.
    batch = (1,) * n_batch if shared else shape[:n_batch]

    def product(data, indices, rhs):
        matrix = sparse.BCOO((data, indices), shape=shape)
        return sparse.bcoo_dot_general(matrix, rhs, dimension_numbers=dimension_numbers)

    args = f32(*batch, nse, *dense), i32(*batch, nse, n_sparse), f32(*rhs)
    assert total(product, *args).macs == expected


def test_products_without_a_contraction_are_multiplications():
    def outer(data, indices, x):
        matrix = sparse.BCOO((data, indices), shape=(6,))
        return sparse.bcoo_dot_general(matrix, x, dimension_numbers=(((), ()), ((), ())))

    counted = total(outer, f32(3), i32(3, 1), f32(5))
    assert (counted.macs, counted.flops) == (0, 3 * 5)
    gradient = total(jax.grad(lambda d, i, x: (sparse.BCOO((d, i), shape=(6, 5)) @ x).sum()), f32(7), i32(7, 2), f32(5))
    assert (gradient.macs, gradient.flops) == (0, 7)


@pytest.mark.parametrize("axes", [(0, 0, 0), (None, None, 0), (0, None, None), (None, 0, None), (0, 0, None)])
def test_vmap_of_four_counts_four_products(axes):
    def product(data, indices, x):
        return sparse.BCOO((data, indices), shape=(6, 5)) @ x

    specs = [f32(7), i32(7, 2), f32(5, 3)]
    args = [
        x if axis is None else jax.ShapeDtypeStruct((4, *x.shape), x.dtype) for x, axis in zip(specs, axes, strict=True)
    ]
    assert total(jax.vmap(product, axes), *args).macs == 4 * 7 * 3


@pytest.mark.parametrize(("nse", "k"), [(1, 1), (7, 4), (12, 3)])
def test_sampled_products_take_k_macs_an_element(nse, k):
    macs = len([(element, t) for element in elements((6, 5), nse) for t in range(k)])

    def sampled(a, b, indices):
        numbers = (((1,), (0,)), ((), ()))
        return sparse.bcoo_dot_general_sampled(a, b, indices, dimension_numbers=numbers)

    assert total(sampled, f32(6, k), f32(k, 5), i32(nse, 2)).macs == macs


@pytest.mark.parametrize(("left", "right", "batch"), [(1, 1, ()), (7, 9, ()), (4, 3, (2,))])
def test_products_of_sparse_arrays_count_the_pairs(left, right, batch):
    n = len(batch)
    numbers = (((n + 1,), (n,)), (tuple(range(n)), tuple(range(n))))

    def product(a, i, b, j):
        lhs = sparse.BCOO((a, i), shape=(*batch, 6, 5))
        rhs = sparse.BCOO((b, j), shape=(*batch, 5, 4))
        return sparse.bcoo_dot_general(lhs, rhs, dimension_numbers=numbers).data

    args = f32(*batch, left), i32(*batch, left, 2), f32(*batch, right), i32(*batch, right, 2)
    pairs = len(list(itertools.product(*map(range, batch), range(left), range(right))))
    counted = total(product, *args)
    assert (counted.macs, counted.flops) == (pairs, 2 * pairs)

    def tangent(a, i, b, j):
        return jax.jvp(lambda a, b: product(a, i, b, j), (a, b), (a, b))

    assert total(tangent, *args).macs == 3 * pairs


def test_an_extraction_reads_what_it_selects():
    analysis = costax.analyze(lambda i, x: sparse.bcoo_extract(sparse.BCOO((x[0, :7], i), shape=(6, 500)), x).data)(
        i32(7, 2), f32(6, 500)
    )
    assert analysis.by_primitive()["bcoo_extract"].bytes_read == 4 * (7 + 7 * 2)


@pytest.mark.parametrize("nse", [1, 2, 7, 50])
def test_sorting_takes_n_log_n_comparisons(nse):
    comparisons = nse * ceil(log2(nse))

    def sort(data, indices):
        return sparse.BCOO((data, indices), shape=(64, 32)).sort_indices().data

    counted = total(sort, f32(nse), i32(nse, 2))
    assert (counted.ops, counted.flops) == (comparisons, 0)
    batched = total(
        lambda d, i: sparse.BCOO((d, i), shape=(3, 64, 32)).sort_indices().data, f32(3, nse), i32(3, nse, 2)
    )
    assert batched.ops == 3 * comparisons


def test_dense_and_back():
    back = total(lambda d, i: sparse.BCOO((d, i), shape=(3, 6, 5)).todense(), f32(3, 7), i32(3, 7, 2))
    assert (back.flops, back.macs) == (3 * 7, 0)
    shared = total(lambda d, i: sparse.BCOO((d, i), shape=(3, 6, 5)).todense(), f32(1, 7), i32(1, 7, 2))
    assert shared.flops == 3 * 7
    there = total(lambda x: sparse.BCOO.fromdense(x, nse=7).data, f32(6, 5))
    assert (there.flops, there.ops) == (0, 2 * 6 * 5)
    assert total(lambda x: sparse.todense(x), f32(6, 5)).ops == 0
    # The cotangent of each stored element is gathered.
    gradient = jax.grad(lambda d, i: (sparse.BCOO((d, i), shape=(6, 5)).todense() ** 2).sum())
    assert "bcoo_extract" in costax.analyze(gradient)(f32(7), i32(7, 2)).by_primitive()


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_sums_and_other_functions_of_sparse_arrays_are_counted(axes):
    def reduced(data, indices):
        return sparse.bcoo_reduce_sum(sparse.BCOO((data, indices), shape=(6, 5)), axes=axes).todense()

    analysis = costax.analyze(reduced)(f32(7), i32(7, 2))
    assert analysis.exact
    # Each stored element is added to its place in the result.
    assert analysis.by_primitive()["bcoo_todense"].flops == 7


def test_sparsified_functions_are_counted():
    def model(w, x):
        return jnp.tanh(w @ x).sum()

    def loss(data, indices, x):
        return sparse.sparsify(model)(sparse.BCOO((data, indices), shape=(64, 32)), x)

    gradient = total(jax.grad(loss), f32(50), i32(50, 2), f32(32, 8))
    assert gradient.macs == 2 * 50 * 8


def test_the_work_of_a_sparse_solver_is_not_in_the_program():
    args = f32(7), i32(7), i32(6), f32(5)
    analysis = costax.analyze(linalg.spsolve)(*args)
    (missing,) = analysis.uncounted
    assert missing.primitive == "spsolve"
    assert "7 stored elements" in missing.reason
    assert not analysis.exact


@pytest.mark.parametrize(
    ("name", "inputs", "macs"),
    [
        ("coo_spmv", ("f32[7]", "i32[7]", "i32[7]", "f32[5]"), 7),
        ("csr_spmv", ("f32[7]", "i32[7]", "i32[7]", "f32[5]"), 7),
        ("coo_spmm", ("f32[7]", "i32[7]", "i32[7]", "f32[5,3]"), 7 * 3),
        ("csr_spmm", ("f32[7]", "i32[7]", "i32[7]", "f32[5,3]"), 7 * 3),
    ],
)
def test_routines_of_gpus_count_what_their_products_count(name, inputs, macs):
    operands = [costax.spec(text) for text in inputs]
    inputs = tuple(Operand(x.shape, "f32" if x.dtype == jnp.float32 else "i32") for x in operands)
    eqn = Equation(name, inputs, (Operand((6, *inputs[-1].shape[1:]), "f32"),))
    assert costax.rules()[name].function(eqn).macs == macs


def test_structured_sparsity_counts_the_stored_half():
    # 2:4 sparsity: of a (16, 64) operand 32 columns are stored.
    inputs = Operand((16, 32), "bf16"), Operand((64, 8), "bf16"), Operand((16, 4), "u16")
    params = {"sparse_operand_idx": 0, "dimension_numbers": (((1,), (0,)), ((), ()))}
    eqn = Equation("sparse_dense_matmul", inputs, (Operand((16, 8), "f32"),), params)
    assert costax.rules()["sparse_dense_matmul"].function(eqn).macs == 16 * 32 * 8
    mask = Equation("sparse_pack_nm", (Operand((16, 64), "bool"),), (Operand((16, 4), "u16"),), {"n": 2, "m": 4})
    packed = costax.rules()["sparse_pack_nm"].function(mask)
    assert (packed.ops, packed.flops) == (16 * 64, 0)
