"""Higher-order primitives: which jaxprs they run, and how often. Importing this package registers the rules."""

from costax.rules.higher_order import (
    branches,
    calls,
    combiners,
    equinox,
    exported,
    loops,
    pallas,
    sharding,
)

__all__ = ["branches", "calls", "combiners", "equinox", "exported", "loops", "pallas", "sharding"]
