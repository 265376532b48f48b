"""Fuzz the HLO reader and the replay with atheris: `python tests/fuzz/fuzz_hlo.py CORPUS_DIR -max_total_time=600`.

Anything but an HloError is a finding. Seeds: serialised modules, such as those that tests/hlo writes with
`compiled.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto()`.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["costax"]):
    from costax.hlo import HloError, law_of, read_bytes, replay

LAW = "0.12.0"


def one_input(data: bytes) -> None:
    with contextlib.suppress(HloError):
        sum(row.flops for row in replay(read_bytes(data), law_of(LAW)).instructions)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
