"""Write what the fuzzers start from: modules of real programs and damaged ones in DIR/hlo, small traces in DIR/traces.

`python seeds.py DIR`.
"""

from __future__ import annotations

import sys
from gzip import decompress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))


from hlo_damaged import DAMAGED
from hlo_samples import SPECS, module_bytes
from traces import chrome_json, cpu_xplane, csv_table, gpu_xplane, nsys_zip, tpu_xplane

# libFuzzer mutates small inputs best.
_LARGEST = 50_000


def main(folder: Path) -> None:
    found = {f"{fn.__name__}_{compiled:d}": module_bytes(fn, compiled) for fn in SPECS for compiled in (False, True)}
    found |= {name.replace(" ", "_"): data for name, data in DAMAGED.items() if len(data) < _LARGEST}
    xplanes = {"gpu": gpu_xplane(), "tpu": tpu_xplane(), "cpu": cpu_xplane()}
    traces = {**xplanes, "csv": csv_table(), "nsys": nsys_zip(), "chrome": decompress(chrome_json("tpu"))}
    for kind, seeds in (("hlo", found), ("traces", traces)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / kind / f"{name}.pb").write_bytes(data)
        print(f"{len(seeds)} seeds in {folder / kind}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
