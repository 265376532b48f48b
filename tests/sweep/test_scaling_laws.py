"""Laws that are fitted to the results of a sweep."""

from __future__ import annotations

import pytest

import costax
import studies
from costax.errors import SweepError

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

GRID = {"depth": [1, 2, 4], "width": [16, 32]}


def swept(grid=GRID):
    """A sweep in this process."""
    return costax.sweep(studies.make, grid, progress=False, workers=1)


def test_a_fit_finds_the_law_that_made_the_numbers():
    found = swept(grid={"depth": [1, 2, 4, 8], "width": [16, 32, 64]})
    fit = found.fit("flops ~ depth*width^2")
    assert fit.coefficients[0] == pytest.approx(2 * 8)
    assert fit.rms == pytest.approx(0, abs=1e-9)
    free = found.fit("params ~ depth^a*width^c")
    assert free.exponents == {"a": pytest.approx(1), "c": pytest.approx(2)}
    # traffic: weights once, activations twice a layer and once more: a sum of two terms, which one power misses
    both = found.fit("bytes_unfused ~ depth*width^2 + depth*width")
    assert both.coefficients == (pytest.approx(4, rel=1e-4), pytest.approx(4 * 8 * 4, rel=1e-3))
    assert both.rms < found.fit("bytes_unfused ~ depth*width^a").rms
    assert "12 points, residuals" in str(both)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("flops", "is not a scaling law"),
        ("flops ~ ", "is not a scaling law"),
        ("flops ~ depth^^2", "is not a scaling law"),
        ("flops ~ dept", "Did you mean 'depth'"),
        ("flops ~ depth^a*width^b + depth^c + width^d", "has 7 unknowns, but the sweep has only 6 points"),
        ("flops ~ depth*width + depth*width", "do not determine"),
        ("collective_bytes ~ depth", "not positive"),
    ],
)
def test_a_law_that_cannot_be_fitted_is_refused(law, message):
    with pytest.raises(SweepError, match=message):
        swept().fit(law)
