"""Fuzz the reader of device files with atheris, and predict with what it reads: `nox -s fuzz -- 600`.

By hand: `python tests/fuzz/fuzz_devices.py CORPUS_DIR -max_total_time=600`. Anything but an error of costax is a
finding, and an input that takes ten seconds or 2 GB (-timeout and -rss_limit_mb). Seeds: `seeds.py` in this folder.
"""

from __future__ import annotations

import contextlib
import math
import random
import sys
import tempfile
import warnings
from pathlib import Path

import atheris
import jax.numpy as jnp

with atheris.instrument_imports(include=["costax"]):
    import costax
    from costax.errors import CostaxError
    from costax.performance.hardware.device_file import read
    from costax.report.device import render
    from costax.report.text import plain

ANALYSIS = costax.analyze(lambda x: jnp.tanh(x @ x))(costax.spec("bf16[256,256]"))
FILE = Path(tempfile.mkdtemp(prefix="costax-fuzz-"), "fuzz.toml")
VALUES = (
    *("0", "-1", "1", "1e400", "inf", "-inf", "nan", "true", '""', '"x"', "[]", "{}", "[1]", "1979-05-27", "5e-324"),
    *('"9e99 TFLOP/s"', '"0 B"', '"-1 GB"', '"1e400 GB/s"', '"nan W"', '"\\u001b]0;x\\u0007"', "99999999999999999999"),
)


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Replace the value of a line, remove, copy or rename a line, or change bytes as libFuzzer does."""
    rng = random.Random(seed)
    lines = data.decode(errors="replace").split("\n")
    row, how = rng.randrange(len(lines)), rng.random()
    key, equals, _ = lines[row].partition("=")
    if how < 0.5 and equals:
        lines[row] = f"{key}= {rng.choice(VALUES)}"
    elif how < 0.6:
        del lines[row]
    elif how < 0.7:
        lines.insert(rng.randrange(len(lines)), lines[row])
    elif how < 0.8 and lines[row].startswith("["):
        lines[row] = f"[{rng.choice(('peak', 'link', 'memory.bandwidth', 'rates', 'network', 'power.x', 'sources'))}]"
    else:
        return atheris.Mutate(data, most)
    return "\n".join(lines).encode(errors="replace")[:most]


def one_input(data: bytes) -> None:
    FILE.write_bytes(data)
    with contextlib.suppress(CostaxError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        device = read(FILE)
        plain(render(device))
        prediction = costax.predict(ANALYSIS, device)
        assert math.isfinite(prediction.seconds), prediction.seconds
        assert prediction.seconds >= 0, prediction.seconds
        str(prediction)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
    atheris.Fuzz()
