"""HLO: what the compiler made of a program, read from its proto and costed by XLA's own law.

`read` turns a serialised `HloModuleProto` into plain records, `opcodes` holds XLA's cost of each opcode,
`replay` adds them up, exactly and in XLA's float32.
"""

from costax.hlo.cost_model import Law, law_of
from costax.hlo.errors import HloError
from costax.hlo.read import module_of, read_bytes, read_file, read_text
from costax.hlo.records import Computation, Instruction, Module, Shape
from costax.hlo.replay import Replay, replay

__all__ = [
    "Computation",
    "HloError",
    "Instruction",
    "Law",
    "Module",
    "Replay",
    "Shape",
    "law_of",
    "module_of",
    "read_bytes",
    "read_file",
    "read_text",
    "replay",
]
