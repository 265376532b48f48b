"""Write what the fuzzers start from, a folder for each in DIR: modules of real programs and damaged ones, small traces,
records of all kinds, formulas, and the device files of costax.

`python seeds.py DIR`.
"""

from __future__ import annotations

import sys
from gzip import decompress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))


import jax
import jax.numpy as jnp

import costax
from costax.analysis.compiled_module import analyze_file
from hlo_damaged import DAMAGED
from hlo_samples import SPECS, module_bytes
from traces import chrome_json, cpu_xplane, csv_table, gpu_xplane, nsys_zip, tpu_xplane

# libFuzzer mutates small inputs best.
_LARGEST = 50_000


# By a name, as the others.
FORMULAS = {
    str(number): text.encode()
    for number, text in enumerate(
        (
            "2*s^2 + s*(s - 1)//2",
            '40*solver/while + "a b"',
            "max(b, floordiv(s, 2)) + mod(s, 8)",
            "ceil_log2(s)*b",
            "i32[b,s]; s >= 2, b <= 64",
            "bf16[2,128]",
            "key<fry>[]",
            "f32[b*h, s//2, mod(s,8)]",
            "solver/while=40,b=8",
        )
    )
}


def records(folder: Path) -> dict[str, bytes]:
    """Return saved analyses with sizes and with formulas, a comparison, and the analysis of a module."""

    def fn(x: Any, n: Any) -> Any:
        with jax.named_scope("layer"):
            y = jax.lax.while_loop(lambda c: c.sum() < n, lambda c: jnp.sin(c @ c), x)
        return jax.lax.cond(n > 0, jnp.sin, lambda y: y * 2, y)

    shapes, path = (costax.spec("f32[8,8]"), costax.spec("f32[]")), folder / "record.json"
    module = folder / "module.pb"
    folder.mkdir(parents=True, exist_ok=True)
    module.write_bytes(module_bytes(next(iter(SPECS)), compiled=True))
    saved = {
        "numbers": costax.analyze(fn, trips={"*": 3})(*shapes),
        "formulas": costax.analyze(lambda x: jnp.tanh(x @ x.T))(costax.spec("f32[b,s]")),
        "comparison": costax.compare(fn, *shapes, trips={"*": 3}),
        "module": analyze_file(module),
    }
    found = {}
    for name, value in saved.items():
        value.save(path)
        found[name] = path.read_bytes()
    path.unlink()
    module.unlink()
    return found


def device_files() -> dict[str, bytes]:
    """Return the device files of costax."""
    folder = Path(costax.__file__).parent / "performance" / "hardware"
    return {path.stem: path.read_bytes() for path in folder.rglob("*.toml")}


def main(folder: Path) -> None:
    found = {f"{fn.__name__}_{compiled:d}": module_bytes(fn, compiled) for fn in SPECS for compiled in (False, True)}
    found |= {name.replace(" ", "_"): data for name, data in DAMAGED.items() if len(data) < _LARGEST}
    xplanes = {"gpu": gpu_xplane(), "tpu": tpu_xplane(), "cpu": cpu_xplane()}
    traces = {**xplanes, "csv": csv_table(), "nsys": nsys_zip(), "chrome": decompress(chrome_json("tpu"))}
    kinds = {
        "hlo": found,
        "traces": traces,
        "records": records(folder),
        "formulas": FORMULAS,
        "devices": device_files(),
    }
    for kind, seeds in kinds.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / kind / f"{name}.pb").write_bytes(data)
        print(f"{len(seeds)} seeds in {folder / kind}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
