"""Polynomials: exact counts that depend on symbols."""

from costax.polynomial.algebra import Count as Count
from costax.polynomial.algebra import Polynomial as Polynomial
from costax.polynomial.algebra import applied as applied
from costax.polynomial.algebra import polynomial as polynomial
from costax.polynomial.algebra import rational as rational
from costax.polynomial.algebra import symbol as symbol
from costax.polynomial.algebra import weight as weight
from costax.polynomial.algebra import wrapped as wrapped
from costax.polynomial.atoms import FUNCTIONS as FUNCTIONS
from costax.polynomial.atoms import Atom as Atom
from costax.polynomial.bounds import at_least as at_least
from costax.polynomial.bounds import lower_bound as lower_bound
from costax.polynomial.bounds import maximum as maximum
from costax.polynomial.bounds import minimum as minimum
from costax.polynomial.division import floordiv as floordiv
