"""HLO: compiled programs, read from their protos and counted by XLA's own cost model.

`read` turns a serialised `HloModuleProto` into plain records, `opcodes` has one function for the cost of each opcode,
and `replay` sums the costs, as exact integers and in XLA's float32.
"""

from costax.errors import HloError
from costax.hlo.cost_model import CostModel, cost_model_for
from costax.hlo.files import module_of, read_file, read_text
from costax.hlo.read import read_bytes
from costax.hlo.records import Computation, Instruction, Module, Shape
from costax.hlo.replay import Replay, replay_module

__all__ = [
    "Computation",
    "CostModel",
    "HloError",
    "Instruction",
    "Module",
    "Replay",
    "Shape",
    "cost_model_for",
    "module_of",
    "read_bytes",
    "read_file",
    "read_text",
    "replay_module",
]
