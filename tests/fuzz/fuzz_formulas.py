"""Fuzz the parsers of formulas, of shapes and of numbers with atheris: `nox -s fuzz -- 600` for ten minutes.

By hand: `python tests/fuzz/fuzz_formulas.py CORPUS_DIR -max_total_time=600`. Anything but an error of costax is a
finding, and an input that takes ten seconds or 2 GB (-timeout and -rss_limit_mb). A formula is the same after it was
printed and read again. Seeds: `seeds.py` in this folder.
"""

from __future__ import annotations

import contextlib
import random
import sys
import warnings

import atheris

with atheris.instrument_imports(include=["costax"]):
    from costax import spec
    from costax.cli.options import parsed_branches, parsed_trips
    from costax.core.polynomial.parse import parse_polynomial
    from costax.errors import CostaxError

PIECES = (
    *(
        "b",
        "s",
        "solver/while",
        '"a b"',
        "0",
        "1",
        "2",
        "9" * 30,
        "1/2",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "^",
        "^2",
        "^99",
    ),
    *(
        "(",
        ")",
        "floordiv(",
        "mod(",
        "max(",
        "min(",
        "ceil_log2(",
        ",",
        " ",
        "f32[",
        "bf16[",
        "]",
        ";",
        ">=",
        "<=",
        "==",
    ),
    *("=", "e9", "1e400", "k", "G", "_", ".", '"', "\\", "é", "\x00", "key<fry>[", "int4[", "f8e4m3fn["),
)


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Insert a piece of a formula, repeat a part, or change bytes as libFuzzer does."""
    rng = random.Random(seed)
    text = data.decode(errors="replace")
    place = rng.randint(0, len(text))
    how = rng.random()
    if how < 0.5:
        text = text[:place] + rng.choice(PIECES) + text[place:]
    elif how < 0.6:
        end = min(len(text), place + rng.randint(1, 20))
        text = text[:place] + text[place:end] * rng.choice((0, 2, 3, 100)) + text[end:]
    else:
        return atheris.Mutate(data, most)
    return text.encode(errors="replace")[:most]


def one_input(data: bytes) -> None:
    text = data.decode(errors="replace")
    with contextlib.suppress(CostaxError):
        formula = parse_polynomial(text)
        assert parse_polynomial(str(formula)) == formula, text
    with contextlib.suppress(CostaxError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        str(spec(text))
    with contextlib.suppress(CostaxError):
        parsed_trips([text])
    parsed_branches([text])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
    atheris.Fuzz()
