"""Functions of jax.numpy and jax.scipy by the dozen, one expression each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy import integrate, interpolate, ndimage, signal, special, stats

from corpus import EXPANDED, FOLDED, FOURIER, LIBRARY, MERGED, one

VECTOR = "f32[16]"
IMAGE = "f32[8,9]"

# Elementwise mathematics.

one("arithmetic", lambda x, y: (x + y) * (x - y) / (1 + y) - (-x), VECTOR, VECTOR)
one("powers", lambda x: x**2 + x**3 + x**-1, VECTOR)
one("power_of_arrays", lambda x, y: jnp.power(x, y), VECTOR, VECTOR)
one("roots", lambda x: jnp.sqrt(x) + jnp.cbrt(x) + jax.lax.rsqrt(x), VECTOR)
one("trigonometry", lambda x: jnp.sin(x) + jnp.cos(x) + jnp.tan(x) + jnp.arctan2(x, 2), VECTOR)
one("inverse_trigonometry", lambda x: jnp.arcsin(x) + jnp.arccos(x) + jnp.arctan(x), VECTOR, differs=EXPANDED)
one("hyperbolic", lambda x: jnp.sinh(x) + jnp.cosh(x) + jnp.tanh(x), VECTOR, differs=EXPANDED)
one("exponentials", lambda x: jnp.exp(x) + jnp.expm1(x) + jnp.log(x) + jnp.log1p(x), VECTOR)
one("bases", lambda x: jnp.exp2(x) + jnp.log2(x) + jnp.log10(x), VECTOR, differs=EXPANDED)
one("logaddexp", lambda x, y: jnp.logaddexp(x, y), VECTOR, VECTOR)
one("rounding", lambda x: jnp.round(x) + jnp.floor(x) + jnp.ceil(x) + jnp.trunc(x), VECTOR)
one("division", lambda x, y: x // y + x % y, "i32[16]", "i32[16]")
one("division_of_floats", lambda x, y: jnp.divmod(x, y), VECTOR, VECTOR)
one("comparisons", lambda x, y: (x < y) & (x != 0) | (y >= 1), VECTOR, VECTOR)
one("minima", lambda x, y: jnp.minimum(jnp.maximum(x, y), 1), VECTOR, VECTOR)
one("classification", lambda x: jnp.isfinite(x) ^ jnp.isnan(x) ^ jnp.isinf(x) ^ jnp.signbit(x), VECTOR)
one("repair", lambda x: jnp.nan_to_num(x), VECTOR)
one("neighbours", lambda x: jnp.nextafter(x, 2 * x), VECTOR, differs=EXPANDED)
one("exponents", lambda x: jnp.frexp(x), VECTOR)
one("copysign", lambda x, y: jnp.copysign(x, y), VECTOR, VECTOR)
one("casts", lambda x: x.astype(jnp.int32).astype(jnp.bfloat16).astype(bool), VECTOR)
one("gcd", lambda x, y: jnp.gcd(x, y), "i32[8]", "i32[8]")
one("sinc", lambda x: jnp.sinc(x), VECTOR)

# Reductions and statistics.

one("sums", lambda x: (x.sum(), x.sum(0), x.prod(1), x.max(), x.min(0)), IMAGE)
one("logic", lambda x: (jnp.any(x > 0), jnp.all(x > 0, 0)), IMAGE)
one("moments", lambda x: (x.mean(0), x.std(1)), IMAGE)
one("variance", lambda x: x.var(), IMAGE)
one("covariance", lambda x: jnp.cov(x), IMAGE)
one("correlation", lambda x: jnp.corrcoef(x), IMAGE, differs=MERGED)
one("ptp_and_average", lambda x, w: (jnp.ptp(x, 0), jnp.average(x, 0, w)), IMAGE, "f32[8]")
one("nansum", lambda x: jnp.nansum(x, 0), IMAGE)
one(
    "reduce_pair",
    lambda x, y: jax.lax.reduce((x, y), (0.0, 0.0), lambda a, b: (a[0] + b[0], a[1] + b[1]), (0,)),
    VECTOR,
    VECTOR,
)
one("differences", lambda x: (jnp.diff(x, 2, 0), jnp.gradient(x, axis=1)), IMAGE)
one("trapezoid", lambda y, x: integrate.trapezoid(y, x), VECTOR, VECTOR)
one("distances", lambda x, y: jnp.linalg.norm(x[:, None] - y[None], axis=-1), "f32[5,3]", "f32[4,3]")

# Special functions.

for name in (
    "erf",
    "gammaln",
    "digamma",
    "erfc",
    "erfinv",
    "i0e",
    "i1e",
    "ndtri",
    "log_ndtr",
    "ndtr",
    "expit",
    "i0",
    "i1",
):
    function = getattr(special, name)
    one(name, lambda x, function=function: function(x), VECTOR, differs=EXPANDED if name != "erf" else "")
for name in ("zeta", "gammainc", "gammaincc", "betaln"):
    function = getattr(special, name)
    one(name, lambda x, y, function=function: function(x, y), VECTOR, VECTOR, differs=EXPANDED)
one("polygamma", lambda x: special.polygamma(2, x), VECTOR, differs=EXPANDED)
one("logit", lambda x: special.logit(x), VECTOR)
one("entropies", lambda x, y: (special.entr(x), special.xlogy(x, y)), VECTOR, VECTOR)
one("divergences", lambda x, y: (special.kl_div(x, y), special.rel_entr(x, y)), VECTOR, VECTOR)
one("betainc", lambda a, b, x: special.betainc(a, b, x), *[VECTOR] * 3, differs=EXPANDED)
one("logsumexp_weighted", lambda x, w: special.logsumexp(x, b=w), VECTOR, VECTOR)
one("spence", lambda x: special.spence(x), VECTOR, differs=EXPANDED)
one("exponential_integral", lambda x: special.expi(x), VECTOR, differs=EXPANDED)

# Distributions.

one("normal_density", lambda x: stats.norm.logpdf(x, 1.0, 2.0), VECTOR, differs=FOLDED)
one("normal_distribution", lambda x: stats.norm.cdf(x), VECTOR, differs=EXPANDED)
one("student_density", lambda x: stats.t.logpdf(x, 3.0), VECTOR, differs=EXPANDED)
one("poisson_mass", lambda k: stats.poisson.logpmf(k, 3.0), VECTOR, differs=EXPANDED)
one("gamma_density", lambda x: stats.gamma.logpdf(x, 2.0), VECTOR, differs=EXPANDED)
one(
    "multivariate_density",
    lambda x, c: stats.multivariate_normal.logpdf(x, jnp.zeros(3), c),
    "f32[3]",
    "f32[3,3]",
    differs=EXPANDED,
)
one("kernel_density", lambda data, x: stats.gaussian_kde(data)(x), VECTOR, "f32[5]", differs=EXPANDED)

# Signals, images, interpolation.

one("convolve", lambda x, y: jnp.convolve(x, y), VECTOR, "f32[5]")
one("correlate_2d", lambda x, y: signal.correlate2d(x, y, "same"), IMAGE, "f32[3,3]")
one("convolve_by_fft", lambda x, y: signal.fftconvolve(x, y), VECTOR, "f32[5]", differs=FOURIER)
one("spectrum", lambda x: signal.welch(x, nperseg=8), "f32[32]", differs=FOURIER)
one("short_time_fourier", lambda x: signal.stft(x, nperseg=8), "f32[32]", differs=FOURIER)
one("detrend", lambda x: signal.detrend(x), VECTOR, differs=LIBRARY)
one("map_coordinates", lambda x, i: ndimage.map_coordinates(x, [i, i], 1), IMAGE, "f32[5]")
one("interp", lambda x, xs, ys: jnp.interp(x, xs, ys), "f32[5]", VECTOR, VECTOR)
one(
    "grid_interpolation",
    lambda v, x: interpolate.RegularGridInterpolator((jnp.arange(8.0), jnp.arange(9.0)), v)(x),
    IMAGE,
    "f32[5,2]",
    differs=MERGED,
)
one("resize_linear", lambda x: jax.image.resize(x, (12, 5), "linear"), IMAGE, differs=FOLDED)
one("resize_cubic", lambda x: jax.image.resize(x, (4, 12), "cubic"), IMAGE, differs=FOLDED)
one("resize_nearest", lambda x: jax.image.resize(x, (12, 5), "nearest"), IMAGE)

# Polynomials.

one("polyval", lambda c, x: jnp.polyval(c, x), "f32[5]", VECTOR)
one("polyval_scanned", lambda c, x: jnp.polyval(c, x, unroll=1), "f32[5]", VECTOR, differs=EXPANDED)
one("polymul", lambda a, b: jnp.polymul(a, b), "f32[5]", "f32[4]")
one("vander", lambda x: jnp.vander(x, 4), VECTOR)
