"""The rules of higher-order primitives: the bodies that they run, and how often. Importing it registers the rules."""

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
