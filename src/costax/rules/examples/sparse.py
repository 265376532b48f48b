"""Worked examples of sparse arrays: (64, 32) with 50 stored elements, or (6, 5) with 7."""

# pyright: basic
# The examples are written as users write them, without annotations.

from __future__ import annotations

from jax.experimental import sparse

from costax.rules.examples import case, differs, since

CASES = (
    case(
        "bcoo_dot_general",
        lambda data, indices, x: sparse.BCOO((data, indices), shape=(64, 32)) @ x,
        "f32[50]",
        "i32[50,2]",
        "f32[32,8]",
        macs=50 * 8,
        flops=2 * 50 * 8,
        xla=differs(
            "3 operations a product, 2 of a dot and 1 of a scatter, and 17 on the indices of each element",
            flops=3 * 50 * 8 + 17 * 50,
        ),
    ),
    case(
        "bcoo_dot_general",
        lambda data, indices, x: sparse.bcoo_dot_general(
            sparse.BCOO((data, indices), shape=(3, 6, 5)), x, dimension_numbers=(((2,), (1,)), ((0,), (0,)))
        ),
        "f32[3,7]",
        "i32[3,7,2]",
        "f32[3,5,4]",
        macs=3 * 7 * 4,
        xla=differs(
            "3 operations a product, 2 of a dot and 1 of a scatter, and 13 on the indices of each element",
            flops=3 * 3 * 7 * 4 + 13 * 3 * 7,
        ),
    ),
    case(
        "bcsr_dot_general",
        lambda data, indices, indptr, x: sparse.BCSR((data, indices, indptr), shape=(6, 5)) @ x,
        "f32[7]",
        "i32[7]",
        "i32[7]",
        "f32[5,3]",
        macs=7 * 3,
        xla=differs("on the CPU a custom call", flops=-1),
    ),
    case(
        "bcoo_dot_general_sampled",
        lambda a, b, indices: sparse.bcoo_dot_general_sampled(
            a, b, indices, dimension_numbers=(((1,), (0,)), ((), ()))
        ),
        "f32[6,4]",
        "f32[4,5]",
        "i32[7,2]",
        macs=7 * 4,
        xla=differs("20 operations on the indices of each element", flops=2 * 7 * 4 + 20 * 7),
    ),
    case(
        "bcoo_spdot_general",
        lambda a, i, b, j: (sparse.BCOO((a, i), shape=(6, 5)) @ sparse.BCOO((b, j), shape=(5, 4))).data,
        "f32[7]",
        "i32[7,2]",
        "f32[9]",
        "i32[9,2]",
        macs=7 * 9,
        flops=2 * 7 * 9,
        ops=2 * 7 * 9 + 7 * 9 + 7 * 9 * 6,
        xla=differs(
            "the sort of the pairs, a comparison of each with each, and arithmetic on indices",
            flops=since({(0,): 15515, (0, 12): 15703}),
        ),
    ),
    case(
        "coo_matvec",
        lambda data, row, col, x: sparse.COO((data, row, col), shape=(6, 5)) @ x,
        "f32[7]",
        "i32[7]",
        "i32[7]",
        "f32[5]",
        macs=7,
        xla=differs("6 operations on the indices of each element", flops=2 * 7 + 6 * 7),
    ),
    case(
        "coo_matmat",
        lambda data, row, col, x: sparse.COO((data, row, col), shape=(6, 5)) @ x,
        "f32[7]",
        "i32[7]",
        "i32[7]",
        "f32[5,3]",
        macs=7 * 3,
        xla=differs("6 operations on the indices of each element", flops=2 * 7 * 3 + 6 * 7),
    ),
    case(
        "csr_matvec",
        lambda data, indices, indptr, x: sparse.CSR((data, indices, indptr), shape=(6, 5)) @ x,
        "f32[7]",
        "i32[7]",
        "i32[7]",
        "f32[5]",
        macs=7,
        xla=differs("the rows are expanded by a cumulative sum", flops=2 * 7 + 17 * 7),
    ),
    case(
        "csr_matmat",
        lambda data, indices, indptr, x: sparse.CSR((data, indices, indptr), shape=(6, 5)) @ x,
        "f32[7]",
        "i32[7]",
        "i32[7]",
        "f32[5,3]",
        macs=7 * 3,
        xla=differs("the rows are expanded by a cumulative sum", flops=2 * 7 * 3 + 17 * 7),
    ),
    case(
        "bcoo_todense",
        lambda data, indices: sparse.BCOO((data, indices), shape=(6, 5)).todense(),
        "f32[7]",
        "i32[7,2]",
        flops=7,
        xla=differs("6 operations on the indices of each element", flops=7 + 6 * 7),
    ),
    case(
        "bcsr_todense",
        lambda data, indices, indptr: sparse.BCSR((data, indices, indptr), shape=(6, 5)).todense(),
        "f32[7]",
        "i32[7]",
        "i32[7]",
        flops=7,
        xla=differs("the rows are expanded by a cumulative sum", flops=7 + 17 * 7),
    ),
    case(
        "coo_todense",
        lambda data, row, col: sparse.COO((data, row, col), shape=(6, 5)).todense(),
        "f32[7]",
        "i32[7]",
        "i32[7]",
        flops=7,
        xla=differs("6 operations on the indices of each element", flops=7 + 6 * 7),
    ),
    case(
        "csr_todense",
        lambda data, indices, indptr: sparse.CSR((data, indices, indptr), shape=(6, 5)).todense(),
        "f32[7]",
        "i32[7]",
        "i32[7]",
        flops=7,
        xla=differs("the rows are expanded by a cumulative sum", flops=7 + 17 * 7),
    ),
    case(
        "todense",
        lambda data, indices: sparse.todense(sparse.BCOO((data, indices), shape=(6, 5))),
        "f32[7]",
        "i32[7,2]",
        flops=7,
        xla=differs("6 operations on the indices of each element", flops=7 + 6 * 7),
    ),
    case(
        "bcoo_fromdense",
        lambda x: sparse.BCOO.fromdense(x, nse=7).data,
        "f32[6,5]",
        flops=0,
        ops=2 * 6 * 5,
        xla=differs(
            "a cumulative sum that is a quadratic reduce-window, and arithmetic on indices",
            flops=since({(0,): 1592, (0, 12): 1562}),
        ),
    ),
    case(
        "bcsr_fromdense",
        lambda x: sparse.BCSR.fromdense(x, nse=7).data,
        "f32[6,5]",
        flops=0,
        ops=2 * 6 * 5,
        xla=differs(
            "a cumulative sum that is a quadratic reduce-window, and arithmetic on indices",
            flops=since({(0,): 1657, (0, 12): 1627}),
        ),
    ),
    case(
        "coo_fromdense",
        lambda x: sparse.COO.fromdense(x, nse=7).data,
        "f32[6,5]",
        flops=0,
        ops=2 * 6 * 5,
        xla=differs(
            "a cumulative sum that is a quadratic reduce-window, and arithmetic on indices",
            flops=since({(0,): 1486, (0, 12): 1536}),
        ),
    ),
    case(
        "csr_fromdense",
        lambda x: sparse.CSR.fromdense(x, nse=7).data,
        "f32[6,5]",
        flops=0,
        ops=2 * 6 * 5,
        xla=differs(
            "a cumulative sum that is a quadratic reduce-window, and arithmetic on indices",
            flops=since({(0,): 1558, (0, 12): 1608}),
        ),
    ),
    case(
        "bcoo_sort_indices",
        lambda data, indices: sparse.BCOO((data, indices), shape=(64, 32)).sort_indices().data,
        "f32[50]",
        "i32[50,2]",
        flops=0,
        ops=50 * 6,
        xla=differs("3 operations on the index of each element that is moved", flops=50 * 6 + 3 * 50),
    ),
    case(
        "bcoo_sum_duplicates",
        lambda data, indices: sparse.bcoo_sum_duplicates(sparse.BCOO((data, indices), shape=(64, 32)), nse=40).data,
        "f32[50]",
        "i32[50,2]",
        flops=50,
        ops=50 + 50 * 6,
        xla=differs(
            "a cumulative sum that is a quadratic reduce-window, and arithmetic on indices",
            flops=since({(0,): 10100, (0, 12): 10249}),
        ),
    ),
    case(
        "bcoo_extract",
        lambda data, indices, x: sparse.bcoo_extract(sparse.BCOO((data, indices), shape=(6, 5)), x).data,
        "f32[7]",
        "i32[7,2]",
        "f32[6,5]",
        flops=0,
        xla=differs("arithmetic on indices", flops=since({(0,): 532, (0, 12): 552})),
    ),
    case(
        "bcsr_extract",
        lambda indices, indptr, x: sparse.bcsr_extract(indices, indptr, x),
        "i32[7]",
        "i32[7]",
        "f32[6,5]",
        flops=0,
        xla=differs("the rows are expanded by a cumulative sum", flops=25 * 7),
    ),
    case(
        "bcoo_transpose",
        lambda data, indices: (
            sparse.bcoo_transpose(sparse.BCOO((data, indices), shape=(6, 5)), permutation=(1, 0)).data
        ),
        "f32[7]",
        "i32[7,2]",
        flops=0,
    ),
)
