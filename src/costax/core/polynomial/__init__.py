"""Polynomials: exact counts that depend on symbols."""

# Each of these registers operations of `Polynomial`.
from costax.core.polynomial import evaluate_numpy as evaluate_numpy
from costax.core.polynomial import parse as parse
from costax.core.polynomial.algebra import Count as Count
from costax.core.polynomial.algebra import Polynomial as Polynomial
from costax.core.polynomial.algebra import apply_function as apply_function
from costax.core.polynomial.algebra import as_polynomial as as_polynomial
from costax.core.polynomial.algebra import magnitude as magnitude
from costax.core.polynomial.algebra import polynomial as polynomial
from costax.core.polynomial.algebra import rational as rational
from costax.core.polynomial.algebra import symbol as symbol
from costax.core.polynomial.atoms import FUNCTIONS as FUNCTIONS
from costax.core.polynomial.atoms import Atom as Atom
from costax.core.polynomial.bounds import at_least as at_least
from costax.core.polynomial.bounds import lower_bound as lower_bound
from costax.core.polynomial.bounds import maximum as maximum
from costax.core.polynomial.bounds import minimum as minimum
from costax.core.polynomial.division import floordiv as floordiv
