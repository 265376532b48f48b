"""The process that compiles: `python -m costax.compare.ahead_of_time.worker FOLDER`, started by `building`.

The folder holds `request.json` and `program.mlir`; what comes of them is put beside: `answer.json` and `hlo.pb`. A
process of its own, because the plugins take a lock on the machine, write to standard error, want environment
variables before jax is imported, and end the process where they find themselves at fault.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from costax import _jax

# Triton finds no tiles for products of some odd extents where no GPU is at hand to try others on.
_NO_TILES: Final = "Couldn't find output tile sizes"
_WITHOUT_TRITON: Final = {"xla_gpu_enable_triton_gemm": False}
_CUBLAS: Final = "Triton found no tiles for a product, so products were compiled as calls of cuBLAS."


def main(folder: Path) -> None:
    """Compile what the folder asks for; what XLA refuses is an answer too."""
    try:
        answer = _answer(folder, json.loads((folder / "request.json").read_text()))
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    # Written whole or not at all: a file that is there is complete.
    (folder / "answer.part").write_text(json.dumps(answer))
    (folder / "answer.part").rename(folder / "answer.json")


def _answer(folder: Path, request: Any) -> dict[str, Any]:
    machine = request["platform"], request["topology"], request["options"]
    program, how, note = (folder / "program.mlir").read_bytes(), request["how"], ""
    start = time.perf_counter()
    try:
        executable = _jax.compile_ahead_of_time(*machine, program, how)
    except Exception as error:
        if request["platform"] != "cuda" or _NO_TILES not in str(error):
            raise
        how, note = {**how, "overrides": {**how["overrides"], **_WITHOUT_TRITON}}, _CUBLAS
        executable = _jax.compile_ahead_of_time(*machine, program, how)
    seconds = time.perf_counter() - start
    modules = executable.hlo_modules()
    (folder / "hlo.pb").write_bytes(modules[0].as_serialized_hlo_module_proto())
    return {
        "seconds": seconds,
        "memory": dict(_jax.compiled_memory(executable)),
        "cost": dict(found) if (found := _jax.compiled_cost(executable)) is not None else None,
        "note": note,
        "modules": len(modules),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
