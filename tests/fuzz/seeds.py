"""Write what the fuzzer starts from: serialised modules of real programs, and damaged ones. `python seeds.py DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))


from hlo_damaged import DAMAGED
from hlo_samples import SPECS, module_bytes

# libFuzzer mutates small inputs best.
_LARGEST = 50_000


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found = {f"{fn.__name__}_{compiled:d}": module_bytes(fn, compiled) for fn in SPECS for compiled in (False, True)}
    found |= {name.replace(" ", "_"): data for name, data in DAMAGED.items() if len(data) < _LARGEST}
    for name, data in found.items():
        (folder / f"{name}.pb").write_bytes(data)
    print(f"{len(found)} seeds in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
