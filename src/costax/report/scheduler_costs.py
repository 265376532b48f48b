"""A prediction as the costs that XLA's latency-hiding scheduler reads, by the names of its instructions.

The file is the text of XLA's message ProfiledInstructionsProto. With
`XLA_FLAGS=--xla_gpu_pgle_profile_file_or_directory_path=FILE.pbtxt` the compiler for GPUs takes the time of each
instruction from it, and decides with these times which computation runs while a collective is under way.
"""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING

from costax.core.printable import printable
from costax.errors import InputError

if TYPE_CHECKING:
    from costax.performance.prediction import Prediction


def as_pbtxt(prediction: Prediction) -> str:
    """Return one line `costs { name: "..." cost_us: ... }` for each instruction: the expected time of one run.

    The cost of `all-gather-start` is the time until the collective is complete; the scheduler gives `all-gather-done`
    none. Raises InputError if the kernels are not those of a compiled program.
    """
    costs = costs_us(prediction)
    if not costs:
        raise InputError(
            f"The kernels of this prediction for `{prediction.analysis.name}` have no names of XLA's instructions.",
            why="XLA's scheduler finds the cost of an instruction by the name that the compiled program gives it.",
            cure="Predict the compiled program: costax.predict(costax.compare(fn, target='cuda:h100')(*args), "
            "'h100-sxm'), or costax predict TARGET --device h100-sxm --xla --save costs.pbtxt.",
        )
    head = (
        f"# {printable(prediction.analysis.name)} on {prediction.device.id}, predicted by costax {version('costax')}: "
        f"microseconds of one run. The kernels are {prediction.fusions}.\n"
    )
    return head + "".join(f"costs {{ name: {json.dumps(name)} cost_us: {cost:.6g} }}\n" for name, cost in costs.items())


def costs_us(prediction: Prediction) -> dict[str, float]:
    """Return the expected microseconds of one run of each instruction of XLA, by its name.

    An instruction in a computation that several loops run has the mean of its runs.
    """
    runs: dict[str, float] = defaultdict(float)
    microseconds: dict[str, float] = defaultdict(float)
    for part in prediction.parts:
        name = part.kernel.instruction
        if name:
            runs[name] += part.kernel.times
            # Not `part.seconds`, which is what other kernels do not hide in the schedule as it was.
            microseconds[name] += part.timing.expected * part.kernel.times * 1e6
    return {name: total / runs[name] for name, total in microseconds.items() if runs[name]}
