"""Higher-order primitives: which jaxprs they run, and how often. Importing this package registers the rules."""

from costax.bodies import calls, combiners, control, equinox, exported, kernels, loops, sharding

__all__ = ["calls", "combiners", "control", "equinox", "exported", "kernels", "loops", "sharding"]
