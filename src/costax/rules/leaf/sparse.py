"""Sparse arrays of `jax.experimental.sparse`: the work is counted by the stored elements.

BCOO and BCSR store `nse` elements for each batch, each of which may be a dense block: `data` is (*batch, nse, *dense).
Elements that are stored as padding, or twice, are stored elements too: which ones they are is data. COO and CSR are
matrices without batches and blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from costax.core import dtypes
from costax.core.cost import Cost, Count
from costax.core.equation import Equation, Operand
from costax.errors import Foreign
from costax.rules.registry import cost_rule, free
from costax.rules.traits import NO_TRAITS, OPAQUE, ContractionKind, Implementation, Traits

_PRODUCT = OPAQUE.but(contraction=ContractionKind.SPARSE)
_SORT = OPAQUE.but(implementation=Implementation.SORT)


@cost_rule("bcoo_dot_general", "bcsr_dot_general", traits=_PRODUCT)
def sparse_dense_product(eqn: Equation) -> Cost:
    """Each stored element of the sparse operand is multiplied by the n elements of the dense one that it meets.

    macs = batch * nse * |dense block| * n, where n is the product of the free extents of the dense operand: neither
    batch nor contracted. A (64, 32) matrix of 50 stored elements times (32, 8) is 50 * 8. A batch that several matrices
    of the other operand share is counted for each. Where no axis is contracted nothing is summed: one multiplication
    instead of each MAC.
    XLA: jax lowers it to a gather, a batched dot without a contraction (2 FLOPs a product) and a scatter (1), or a
    reduction (1), and to arithmetic on indices. On a GPU, if `jax_bcoo_cusparse_lowering` is set, a cuSPARSE call, -1.
    """
    data, indices, rhs = eqn.inputs[0], eqn.inputs[1], eqn.inputs[-1]
    (_, contracted), (_, batch) = eqn.params["dimension_numbers"]
    n = prod(extent for axis, extent in enumerate(rhs.shape) if axis not in {*contracted, *batch})
    stored = _stored(data, len(indices.shape) - _index_axes(eqn), eqn.params["lhs_spinfo"].shape)
    return _products(eqn, data, rhs, stored * n, summed=bool(contracted))


@cost_rule("bcoo_dot_general_sampled", traits=_PRODUCT)
def sampled_product(eqn: Equation) -> Cost:
    """A product of dense arrays of which only the elements at given indices are computed, each a sum of k products.

    macs = |out| * k, where k is the product of the contracted extents and |out| the number of stored elements. Where no
    axis is contracted, |out| multiplications. It is the gradient of a sparse product in the stored elements.
    XLA: jax lowers products of vectors and of matrices to gathers and a batched dot, 2 FLOPs a MAC, and all others to
    the whole dense product and a gather.
    """
    lhs, rhs = eqn.inputs[:2]
    contracted: Sequence[int] = eqn.params["dimension_numbers"][0][0]
    k = prod(lhs.shape[axis] for axis in contracted)
    return _products(eqn, lhs, rhs, eqn.out.size * k, summed=bool(contracted))


@cost_rule("bcoo_spdot_general", traits=_PRODUCT)
def sparse_sparse_product(eqn: Equation) -> Cost:
    """Each stored element of one operand meets each stored element of the other one in its batch: nse1 * nse2 pairs.

    macs = batch * nse1 * nse2: jax forms every pair, and compares the contracted indices of the pair to decide whether
    the product is 0; which indices are equal is data. Where no axis is contracted, one multiplication a pair. The pairs
    are then sorted by their index, to add up those with equal ones, as in `bcoo_sum_duplicates`.
    XLA: the same pairs as elementwise operations, a sort and a scatter.
    """
    lhs, lhs_indices, rhs, _ = eqn.inputs
    contracted: Sequence[int] = eqn.params["dimension_numbers"][0][0]
    *batch, _ = eqn.out.shape
    pairs = lhs.shape[-1] * rhs.shape[-1]
    products = _products(eqn, lhs, rhs, prod(batch) * pairs, summed=bool(contracted))
    compared = Cost.compare(lhs_indices.dtype, prod(batch) * pairs * len(contracted))
    return products + compared + _sorted(lhs_indices.dtype, prod(batch), pairs)


@cost_rule("coo_matvec", "csr_matvec", "coo_spmv", "csr_spmv", traits=_PRODUCT)
@cost_rule("coo_matmat", "csr_matmat", "coo_spmm", "csr_spmm", traits=_PRODUCT)
def sparse_matrix_product(eqn: Equation) -> Cost:
    """Each stored element of the matrix is multiplied by one element of each column of the dense operand.

    macs = nse * columns; a vector is one column. `coo_spmv` and the like are cuSPARSE's routines.
    XLA: a gather, a multiplication (1 FLOP) and a scatter (1). On a GPU a cuSPARSE call, -1.
    """
    data, dense = eqn.inputs[0], eqn.inputs[-1]
    return _products(eqn, data, dense, data.size * prod(dense.shape[1:]), summed=True)


@cost_rule("sparse_dense_matmul", traits=_PRODUCT)
def structured_product(eqn: Equation) -> Cost:
    """A product with an operand of N:M sparsity, of which only the N stored elements of M are multiplied.

    macs = |out| * k, where k is the product of the contracted extents of the operand that is stored.
    XLA: a custom dot with sparsity, counted as a dense one of the stored extents.
    """
    lhs, rhs = eqn.inputs[:2]
    position: int = eqn.params["sparse_operand_idx"]
    axes: Sequence[int] = eqn.params["dimension_numbers"][0][position]
    stored = (lhs, rhs)[position]
    return _products(eqn, lhs, rhs, eqn.out.size * prod(stored.shape[axis] for axis in axes), summed=True)


@cost_rule("sparse_pack_nm", traits=OPAQUE)
def pack_mask(eqn: Equation) -> Cost:
    """The mask of an operand of N:M sparsity is packed into words: each of its elements is tested once.

    ops = |mask|, no FLOPs.
    XLA: a search for the true elements of each word, with cumulative sums and arithmetic on indices.
    """
    mask = eqn.inputs[0]
    return Cost.compare(mask.dtype, mask.size)


@cost_rule("bcoo_todense", "bcsr_todense", "coo_todense", "csr_todense", "todense", traits=OPAQUE)
def to_dense(eqn: Equation) -> Cost:
    """Each stored element is added to the dense array, which is 0 before.

    flops = batch * nse * |dense block|: elements with the same index add up. `todense` of a dense array costs nothing.
    XLA: a scatter, 1 FLOP for each stored element, and arithmetic on indices.
    """
    data = eqn.inputs[0]
    if len(eqn.inputs) == 1:
        return Cost()
    if eqn.name in ("bcoo_todense", "bcsr_todense"):
        n_batch = len(eqn.inputs[1].shape) - _index_axes(eqn)
        return Cost.arithmetic(data.dtype, _stored(data, n_batch, eqn.out.shape))
    return Cost.arithmetic(data.dtype, data.size)


@cost_rule("bcoo_fromdense", "bcsr_fromdense", "coo_fromdense", "csr_fromdense", traits=OPAQUE)
def from_dense(eqn: Equation) -> Cost:
    """Each element is compared with 0, and a running sum of the results gives each element its place.

    ops = |in| comparisons and |in| integer additions; no FLOPs. Then `nse` elements are copied.
    XLA: a comparison and a cumulative sum, and scatters and arithmetic that find the indices from it.
    """
    dense, indices = eqn.inputs[0], eqn.outputs[1]
    return Cost.compare(dense.dtype, dense.size) + Cost.arithmetic(indices.dtype, dense.size)


@cost_rule("bcoo_sort_indices", traits=_SORT)
def sort_indices(eqn: Equation) -> Cost:
    """The stored elements of a batch are sorted by their indices: nse * ceil(log2 nse) comparisons; OPs, no FLOPs.

    ops = batch * nse * ceil(log2 nse), as of `sort` with all indices as keys.
    XLA: HandleSort counts n * ceil(log2 n) with n the elements of all batches together; gathers move the elements.
    """
    indices = eqn.inputs[1]
    *batch, nse, n_sparse = indices.shape
    return _sorted(indices.dtype, prod(batch), nse) if n_sparse else Cost()


@cost_rule("bcoo_sum_duplicates", traits=_SORT)
def sum_duplicates(eqn: Equation) -> Cost:
    """The stored elements are sorted by their indices, and each is added to those with the same index.

    ops = batch * nse * ceil(log2 nse) comparisons, and flops = |data|, one addition for each stored element.
    XLA: HandleSort counts n * ceil(log2 n) with n the elements of all batches together; a scatter adds the elements.
    """
    data, indices = eqn.inputs[:2]
    *batch, nse, n_sparse = indices.shape
    stored = prod(eqn.out.shape[: len(batch)]) * prod(data.shape[len(batch) :])
    return Cost.arithmetic(data.dtype, stored) + (_sorted(indices.dtype, prod(batch), nse) if n_sparse else Cost())


@cost_rule("spsolve", traits=OPAQUE.but(implementation=Implementation.FACTORIZATION))
def sparse_solve(eqn: Equation) -> Cost:
    """The elements that a factorisation fills in depend on the indices, which are data: its work is not in the program.

    It is listed as uncounted unless the user registers a rule with `@costax.cost_rule("spsolve", override=True)`; the
    number of stored elements is `eqn.inputs[0].size`, and the order of the matrix `eqn.inputs[3].size`.
    XLA: on a CPU a call of Python, which runs scipy, and on a GPU a cuSOLVER call (csrlsvqr): -1 FLOP.
    """
    raise Foreign(
        f"solves a sparse system of {eqn.inputs[0].size} stored elements with a routine outside of the program, whose "
        "work depends on the indices"
    )


def _extracted(eqn: Equation) -> tuple[Count, Count]:
    """The indices and the selected elements are read, the elements are written."""
    indices = sum(x.nbytes for x in eqn.inputs[:-1])
    return eqn.out.nbytes + indices, eqn.out.nbytes


free(
    "bcoo_extract",
    "bcsr_extract",
    because="The elements at the indices are copied: bytes = 2 * out + indices. "
    "XLA: a gather, and arithmetic on the indices.",
    traffic=_extracted,
    traits=Traits(partial=True),
)
free(
    "bcoo_transpose",
    because="The indices change their order, and of batches and blocks the data too; all are copied. "
    "XLA: a gather of the columns of the indices, 0 FLOPs, and arithmetic on their positions.",
    traits=NO_TRAITS,
)


def _index_axes(eqn: Equation) -> int:
    """Return how many axes the indices of one batch have: (nse, sparse axes) in BCOO, (nse,) in BCSR."""
    return 2 if eqn.name.startswith("bcoo") else 1


def _stored(data: Operand, n_batch: int, shape: Sequence[Count]) -> Count:
    """Return the number of stored elements. Batches may share their elements: the batch extent of data is 1 then."""
    return prod(shape[:n_batch]) * prod(data.shape[n_batch:])


def _products(eqn: Equation, lhs: Operand, rhs: Operand, count: Count, *, summed: bool) -> Cost:
    dtype = dtypes.mixed(lhs.dtype, rhs.dtype, accumulator=eqn.out.dtype)
    return Cost.macs_of(dtype, count) if summed else Cost.arithmetic(dtype, count)


def _sorted(dtype: str, batches: Count, nse: Count) -> Cost:
    levels = (nse - 1).bit_length() if nse else 0
    return Cost.compare(dtype, batches * nse * levels)
