"""The child process that compiles: `python -m costax.compare.ahead_of_time.worker FOLDER`, started by `build`.

The folder has `request.json` and `program.mlir`; the process writes `answer.json` and `hlo.pb` to it. It is a process
of its own because the plugins lock the machine, write to standard error, need environment variables before jax is
imported, and end the process on internal errors.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from costax import _jax

# Without a GPU to try tiles on, Triton finds none for products with some odd extents.
_NO_TILES: Final = "Couldn't find output tile sizes"
_WITHOUT_TRITON: Final = {"xla_gpu_enable_triton_gemm": False}
_CUBLAS: Final = "Triton found no tiles for a product, so products were compiled as calls of cuBLAS."


def main(folder: Path) -> None:
    """Compile the program of a folder. An error of XLA is written as an answer too."""
    try:
        answer = _answer(folder, json.loads((folder / "request.json").read_text()))
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    # Renamed when it is complete, so that the parent never reads a part of an answer.
    (folder / "answer.part").write_text(json.dumps(answer))
    (folder / "answer.part").rename(folder / "answer.json")


def _end_with_parent() -> None:
    """Let Linux kill this process when the one that started it ends: XLA would compile on, for minutes."""
    if sys.platform == "linux":
        set_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_signal, signal.SIGKILL)


def _answer(folder: Path, request: Any) -> dict[str, Any]:
    machine = request["platform"], request["topology"], request["options"]
    program, options, note = (folder / "program.mlir").read_bytes(), request["compile_options"], ""
    start = time.perf_counter()
    try:
        executable = _jax.compile_ahead_of_time(*machine, program, options)
    except Exception as error:
        if request["platform"] != "cuda" or _NO_TILES not in str(error):
            raise
        # The modules of the first attempt are none of the second.
        for path in Path(request["dumped"]).iterdir() if request["dumped"] else ():
            path.unlink()
        options, note = {**options, "overrides": {**options["overrides"], **_WITHOUT_TRITON}}, _CUBLAS
        executable = _jax.compile_ahead_of_time(*machine, program, options)
    seconds = time.perf_counter() - start
    modules = executable.hlo_modules()
    (folder / "hlo.pb").write_bytes(modules[0].as_serialized_hlo_module_proto())
    cost = _jax.compiled_cost(executable)
    return {
        "seconds": seconds,
        "memory": dict(_jax.compiled_memory(executable)),
        "cost": dict(cost) if cost is not None else None,
        "note": note,
        "modules": len(modules),
    }


if __name__ == "__main__":
    _end_with_parent()
    main(Path(sys.argv[1]))
