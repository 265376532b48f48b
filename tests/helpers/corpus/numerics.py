"""Numerical arrays: transforms, linear algebra, sorting, indexing, random draws, narrow dtypes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax, random
from jax.scipy import linalg

from corpus import DENSE, EXPANDED, FOLDED, FOURIER, LIBRARY, LOWERED, OUTER, one, program

MATRIX = "f32[8,8]"

# Fourier transforms.

one("fft", lambda x: jnp.fft.fft(x), "c64[4,16]", differs=FOURIER)
one("ifft", lambda x: jnp.fft.ifft(x), "c64[4,16]", differs=FOURIER)
one("fft2", lambda x: jnp.fft.fft2(x), "c64[8,16]", differs=FOURIER)
one("rfft", lambda x: jnp.fft.rfft(x), "f32[4,16]", differs=FOURIER)
one("irfft", lambda x: jnp.fft.irfft(x), "c64[4,9]", differs=FOURIER)
one("fft_filter", lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * jnp.exp(-jnp.arange(9.0))), "f32[4,16]", differs=FOURIER)
one("dct", lambda x: jax.scipy.fft.dct(x), "f32[4,16]", differs=FOURIER)

# Linear algebra.

one("cholesky", lambda a: jnp.linalg.cholesky(a), MATRIX, differs=LIBRARY)
one("qr", lambda a: jnp.linalg.qr(a), "f32[8,4]", differs=LIBRARY)
one("lu", lambda a: linalg.lu(a), MATRIX, differs=LIBRARY)
one("svd", lambda a: jnp.linalg.svd(a, full_matrices=False), "f32[8,4]", differs=LIBRARY)
one("singular_values", lambda a: jnp.linalg.svd(a, compute_uv=False), "f32[8,4]", differs=LIBRARY)
one("eigh", lambda a: jnp.linalg.eigh(a), MATRIX, differs=LIBRARY)
one("eigvalsh_batched", lambda a: jnp.linalg.eigvalsh(a), "f32[3,4,4]", differs=LIBRARY)
one("eig", lambda a: jnp.linalg.eig(a), MATRIX, differs=LIBRARY)
one("schur", lambda a: linalg.schur(a), MATRIX, differs=LIBRARY)
one("hessenberg", lambda a: linalg.hessenberg(a), MATRIX, differs=LIBRARY)
one("solve", lambda a, b: jnp.linalg.solve(a, b), MATRIX, "f32[8,3]", differs=LIBRARY)
one("solve_gradient", jax.grad(lambda a, b: jnp.linalg.solve(a, b).sum()), MATRIX, "f32[8]", differs=LIBRARY)
one("solve_triangular", lambda a, b: linalg.solve_triangular(a, b), MATRIX, "f32[8,3]", differs=LIBRARY)
one("cho_solve", lambda a, b: linalg.cho_solve((a, True), b), MATRIX, "f32[8,3]", differs=LIBRARY)
one("det", lambda a: jnp.linalg.det(a), MATRIX, differs=LIBRARY)
one("slogdet", lambda a: jnp.linalg.slogdet(a), "f32[3,4,4]", differs=LIBRARY)
one("inv", lambda a: jnp.linalg.inv(a), MATRIX, differs=LIBRARY)
one("pinv", lambda a: jnp.linalg.pinv(a), "f32[8,4]", differs=LIBRARY)
one("lstsq", lambda a, b: jnp.linalg.lstsq(a, b), "f32[8,4]", "f32[8]", differs=LIBRARY)
one("expm", lambda a: linalg.expm(a), "f32[4,4]", differs=LIBRARY)
one("tridiagonal_solve", lambda a, b: lax.linalg.tridiagonal_solve(a, a, a, b), "f32[8]", "f32[8,2]", differs=LIBRARY)
one("matrix_power", lambda a: jnp.linalg.matrix_power(a, 5), MATRIX)
one(
    "matrix_norms",
    lambda a: (jnp.linalg.norm(a), jnp.linalg.norm(a, 1), jnp.linalg.norm(a, 2)),
    MATRIX,
    differs=LIBRARY,
)
one("householder", lambda a, t: lax.linalg.householder_product(a, t), "f32[8,4]", "f32[4]", differs=LIBRARY)
one("kron", lambda a, b: jnp.kron(a, b), "f32[2,3]", "f32[4,5]")
one("cross", lambda a, b: jnp.cross(a, b), "f32[5,3]", "f32[5,3]")

# Sorting and searching.

one("sort", lambda x: jnp.sort(x), "f32[4,16]", differs=EXPANDED)
one("argsort", lambda x: jnp.argsort(x, descending=True), "f32[16]")
one("sort_pairs", lambda k, v: lax.sort((k, v), num_keys=1), "i32[16]", "f32[16]")
one("lexsort", lambda a, b: jnp.lexsort((a, b)), "i32[16]", "f32[16]")
one("top_k", lambda x: lax.top_k(x, 3), "f32[4,16]", differs=EXPANDED)
one("unique", lambda x: jnp.unique(x, size=8, return_counts=True), "i32[16]", differs=EXPANDED)
one("searchsorted", lambda a, v: jnp.searchsorted(a, v), "f32[16]", "f32[5]")
one("median", lambda x: jnp.median(x, 0), "f32[9,4]", differs=EXPANDED)
one("quantile", lambda x: jnp.quantile(x, jnp.array([0.1, 0.9])), "f32[16]", differs=EXPANDED)
one("argmax", lambda x: jnp.argmax(x, -1), "f32[4,16]", differs=EXPANDED)
one("histogram", lambda x: jnp.histogram(x, 5)[0], "f32[16]")
one("nonzero", lambda x: jnp.nonzero(x, size=4), "f32[16]", differs=EXPANDED)

# Indexing.

one("gather", lambda x, i: x[i], "f32[8,4]", "i32[3]")
one("gather_pairs", lambda x, i, j: x[i, :, j], "f32[8,4,5]", "i32[3]", "i32[3]")
one("take_along_axis", lambda x, i: jnp.take_along_axis(x, i, 1), MATRIX, "i32[8,2]", differs=LOWERED)
one("dynamic_slice", lambda x, i: lax.dynamic_slice(x, (i, i), (2, 3)), MATRIX, "i32[]")
one("dynamic_update_slice", lambda x, y, i: lax.dynamic_update_slice(x, y, (i, 0)), MATRIX, "f32[2,8]", "i32[]")
one("strided_slice", lambda x: x[1::3, ::-1], MATRIX)
one("scatter_set", lambda x, i, y: x.at[i].set(y), MATRIX, "i32[3]", "f32[3,8]")
one("scatter_add", lambda x, i, y: x.at[i].add(y), MATRIX, "i32[3]", "f32[3,8]")
one("scatter_multiply", lambda x, i, y: x.at[i].multiply(y), MATRIX, "i32[3]", "f32[3,8]")
one("scatter_max", lambda x, i, y: x.at[:, i].max(y), MATRIX, "i32[3]", "f32[8,3]")
one("scatter_apply", lambda x, i: x.at[i].apply(jnp.sin), MATRIX, "i32[3]", differs=LOWERED)
one("gather_gradient", jax.grad(lambda x, i: jnp.sin(x[i]).sum()), MATRIX, "i32[3]", differs=FOLDED)
one("segment_sum", lambda x, i: jax.ops.segment_sum(x, i, 4), "f32[10,3]", "i32[10]")
one("segment_max", lambda x, i: jax.ops.segment_max(x, i, 4), "f32[10,3]", "i32[10]")
one("bincount", lambda x: jnp.bincount(x, length=8), "i32[16]")
one("where", lambda p, x, y: jnp.where(p, x, y), "bool[8]", "f32[8]", "f32[8]")
one("roll_and_pad", lambda x: jnp.pad(jnp.roll(x, 2, 0), ((1, 2), (0, 1))), MATRIX)
one("repeat_and_tile", lambda x: jnp.tile(jnp.repeat(x, 2, axis=0), (1, 3)), MATRIX)
one("triangles", lambda x: jnp.tril(x) + jnp.triu(x, 1), MATRIX, differs=FOLDED)

# Cumulative operations.

one("cumsum", lambda x: jnp.cumsum(x, 0), "f32[16,4]", differs=EXPANDED)
one("cumprod", lambda x: jnp.cumprod(x, 0), "f32[16,4]", differs=EXPANDED)
one("cummax", lambda x: lax.cummax(x, 0, reverse=True), "f32[16,4]", differs=EXPANDED)
one("cumlogsumexp", lambda x: lax.cumlogsumexp(x), "f32[16]", differs=EXPANDED)

# Random draws.

for draw, sample in {
    "bits": lambda key: random.bits(key, (5, 3)),
    "uniform": lambda key: random.uniform(key, (4, 8)),
    "normal": lambda key: random.normal(key, (4, 8)),
    "truncated_normal": lambda key: random.truncated_normal(key, -2.0, 2.0, (4, 8)),
    "bernoulli": lambda key: random.bernoulli(key, 0.3, (4, 8)),
    "categorical": lambda key: random.categorical(key, jnp.zeros((4, 8))),
    "choice": lambda key: random.choice(key, 10, (4,)),
    "permutation": lambda key: random.permutation(key, 16),
    "randint": lambda key: random.randint(key, (8,), 0, 100),
    "exponential": lambda key: random.exponential(key, (8,)),
    "gamma": lambda key: random.gamma(key, 2.0, (8,)),
    "beta": lambda key: random.beta(key, 2.0, 3.0, (8,)),
    "poisson": lambda key: random.poisson(key, 3.0, (8,)),
    "dirichlet": lambda key: random.dirichlet(key, jnp.ones(4)),
    "multivariate_normal": lambda key: random.multivariate_normal(key, jnp.zeros(3), jnp.eye(3)),
    "split": lambda key: random.split(key, 3),
    "fold_in": lambda key: random.fold_in(key, 7),
}.items():
    one(f"random_{draw}", sample, "key<fry>[]", differs=EXPANDED)
one("random_rbg", lambda key: random.uniform(key, (8,)), "key<rbg>[]", differs=EXPANDED)
one(
    "dropout",
    lambda key, x: jnp.where(random.bernoulli(key, 0.9, x.shape), x / 0.9, 0),
    "key<fry>[]",
    MATRIX,
    differs=EXPANDED,
)

# Contractions of every dtype.

one("einsum_trace", lambda a: jnp.einsum("ii", a), MATRIX)
one("einsum_outer", lambda a, b: jnp.einsum("i,j->ij", a, b), "f32[8]", "f32[5]", differs=OUTER)
one("einsum_chain", lambda a, b, c: jnp.einsum("ij,jk,kl->il", a, b, c), MATRIX, MATRIX, "f32[8,2]")
one("einsum_batched", lambda a, b: jnp.einsum("bij,bkj->bik", a, b), "f32[3,4,5]", "f32[3,6,5]")
one("tensordot", lambda a, b: jnp.tensordot(a, b, 2), "f32[3,4,5]", "f32[4,5,6]")
one("multi_dot", lambda a, b, c: jnp.linalg.multi_dot([a, b, c]), "f32[3,9]", "f32[9,2]", "f32[2,7]")
one("dot_vectors", lambda a, b: a @ b, "f32[16]", "f32[16]")
one("dot_empty", lambda a, b: a @ b, "f32[4,0]", "f32[0,3]")
one("dot_int8", lambda a, b: lax.dot(a, b, preferred_element_type=jnp.int32), "i8[4,8]", "i8[8,3]")
one("dot_fp8", lambda a, b: lax.dot(a, b, preferred_element_type=jnp.float32), "f8_e4m3fn[4,8]", "f8_e4m3fn[8,3]")
one("dot_bf16_accumulate", lambda a, b: lax.dot(a, b, preferred_element_type=jnp.float32), "bf16[4,8]", "bf16[8,3]")
one("dot_complex", lambda a, b: a @ b, "c64[4,8]", "c64[8,3]")
one("ragged_dot", lambda a, b, g: lax.ragged_dot(a, b, g), "f32[12,4]", "f32[3,4,5]", "i32[3]", differs=DENSE)


@program("f32[4,8]", "i8[8,3]", "f32[3]")
def quantised_dense(x, w, scale):
    step = jnp.abs(x).max(-1, keepdims=True) / 127
    narrow = jnp.clip(jnp.round(x / step), -127, 127).astype(jnp.int8)
    wide = lax.dot(narrow, w, preferred_element_type=jnp.int32)
    return wide.astype(jnp.float32) * step * scale


@program("u32[8]", "u32[8]")
def hash_words(x, y):
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) + (y << 3)
    return lax.population_count(x) | lax.clz(y) & ~x


@program("c64[8]", "c64[8]", differs=EXPANDED)
def complex_arithmetic(a, b):
    return a * b.conj() + a / b - 2j * a


@program("f32[8]")
def bits_of_floats(x):
    bits = lax.bitcast_convert_type(x, jnp.int32)
    return lax.bitcast_convert_type(bits & 0x7FFFFFFF, jnp.float32), lax.reduce_precision(x, 5, 10)
