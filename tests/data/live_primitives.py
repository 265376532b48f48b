"""Write tests/data/live_primitives.json: the names of the primitives with a rule, by the version of jax that has them.

    python tests/data/live_primitives.py          # adds or replaces the names of the installed jax
    python tests/data/live_primitives.py --list   # prints all primitives of the installed jax as JSON

Run it with each supported jax: the oldest, the newest for the default Python, the newest of all. Versions that costax
no longer supports are deleted by hand. equinox and lineax must be installed, because costax has rules for their
primitives.
"""

from __future__ import annotations

import gc
import importlib
import json
import pkgutil
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
# Modules that do something else than define primitives when they are imported.
NOT_IMPORTED = r"test|tools|jax2tf|mosaic\.gpu\.examples|jax_to_ir"
LIBRARIES = ("equinox.internal", "lineax")


def primitives() -> list[str]:
    """Return the names of all primitives of the installed jax, equinox and lineax. Imports all of them."""
    import jax
    from jax.extend.core import Primitive

    for module in pkgutil.walk_packages(jax.__path__, "jax.", onerror=lambda name: None):
        if not re.search(NOT_IMPORTED, module.name):
            # Some modules need a package or a device that this machine does not have.
            with suppress(ImportError, AttributeError, NotImplementedError, RuntimeError):
                importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    return sorted({p.name for p in gc.get_objects() if isinstance(p, Primitive)})


def merged(recorded: dict[str, list[str]], version: str, names: list[str]) -> dict[str, list[str]]:
    """Return the recorded names with those of one version added or replaced, in the order of the versions."""
    every = {**recorded, version: sorted(names)}
    return dict(sorted(every.items(), key=lambda item: [int(part) for part in re.findall(r"\d+", item[0])]))


def main() -> None:
    """Print the names, or write those that have a rule."""
    import jax

    import costax

    if "--list" in sys.argv:
        print(json.dumps(primitives()))
        return
    # Names of rules before the enumeration: it imports modules that could register rules of their own.
    ruled = set(costax.rules())
    names = [name for name in primitives() if name in ruled]
    recorded = json.loads(FILE.read_text())
    before = set(recorded.get(jax.__version__, ()))
    FILE.write_text(json.dumps(merged(recorded, jax.__version__, names), indent=0) + "\n")
    added, removed = sorted(set(names) - before), sorted(before - set(names))
    print(f"jax {jax.__version__}: {len(names)} primitives with a rule; added: {added}; removed: {removed}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
