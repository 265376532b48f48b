"""Recurrent layers: LSTMs and GRUs, which other tools count as one layer, recognised in the equations of a cell.

In a program of torch, a recurrent module is one operation, `lstm`, whose equations are those of all its cells.

A cell of u units computes 3 u sigmoids and 2 u hyperbolic tangents (LSTM), or 2 u and u (GRU), from products with 4 u
or 3 u results: for the input and the state one by one, or for both at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from costax.core.cost import Count

LSTM, GRU, SIMPLE_RNN, OTHER_CELL = "LSTM layers", "GRU layers", "simple recurrent layers", "other recurrent layers"
LSTM_CELL, GRU_CELL, SIMPLE_CELL = "LSTM cells", "GRU cells", "simple recurrent cells"
TORCH_CELLS: Final = (LSTM_CELL, GRU_CELL, SIMPLE_CELL)
"""Modules of torch for one step, such as nn.LSTMCell, which tools do not count as a step of nn.LSTM."""
RECURRENT: Final = (LSTM, GRU, SIMPLE_RNN, *TORCH_CELLS, OTHER_CELL)
_SIGMOIDS: Final = frozenset({"sigmoid", "logistic"})


@dataclass(frozen=True, slots=True)
class _Cell:
    """A kind of cell: its gates, sigmoids and hyperbolic tangents for each unit.

    classes: of modules that are such a cell. operations: of torch that consist of such cells.
    """

    kind: str
    gates: int
    sigmoids: int
    tangents: int
    classes: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()


_KINDS: Final = (
    _Cell(LSTM, 4, 3, 2, frozenset({"LSTMCell", "OptimizedLSTMCell", "LSTM"}), frozenset({"lstm"})),
    _Cell(GRU, 3, 2, 1, frozenset({"GRUCell", "GRU"}), frozenset({"gru"})),
    _Cell(
        *(SIMPLE_RNN, 1, 0, 1),
        frozenset({"SimpleCell", "VanillaRNN", "RNNCell"}),
        frozenset({"rnn_tanh", "rnn_relu"}),
    ),
    _Cell(LSTM_CELL, 4, 3, 2, operations=frozenset({"lstm_cell"})),
    _Cell(GRU_CELL, 3, 2, 1, operations=frozenset({"gru_cell"})),
    _Cell(SIMPLE_CELL, 1, 0, 1, operations=frozenset({"rnn_tanh_cell", "rnn_relu_cell"})),
)
_OTHER_CELLS: Final = frozenset({"MGUCell", "ConvLSTMCell", "ConvLSTM", "Conv1DLSTM", "Conv2DLSTM", "Conv3DLSTM"})
CELL_CLASSES: Final = _OTHER_CELLS.union(*(cell.classes for cell in _KINDS))
"""The classes of modules of flax, equinox and haiku that compute one step of a recurrent layer."""
CELL_OPERATIONS: Final = frozenset[str]().union(*(cell.operations for cell in _KINDS))
"""The operations of torch that compute recurrent layers, or one step of them."""


class MatrixProduct(NamedTuple):
    """A product of a cell. weight: the elements of its parameter, 0 if it is not known."""

    macs: Count
    outputs: Count
    weight: Count


def recognised(
    name: str, products: Sequence[MatrixProduct], functions: Sequence[tuple[str, Count]]
) -> tuple[str, Count] | None:
    """Return the kind of a cell and its units, of all its steps together; None if the layers are no cell.

    name: the class of the cell or the operation of torch, or "" for the body of a loop. functions: names and elements
    of activation functions.
    """
    sigmoids = sum(count for function, count in functions if function in _SIGMOIDS)
    tangents = sum(count for function, count in functions if function == ("relu" if "relu" in name else "tanh"))
    outputs = sum(product.outputs for product in products)
    for cell in _KINDS:
        units, named = tangents // cell.tangents, cell.classes | cell.operations
        fits = sigmoids == cell.sigmoids * units and tangents == cell.tangents * units and units
        by_parts = outputs == 2 * cell.gates * units
        at_once = outputs == cell.gates * units and not _state_alone(products, cell.gates)
        if fits and (by_parts or at_once) and (name in named or (not name and cell.sigmoids)):
            return cell.kind, units
    likely = bool(products) and any(
        cell.sigmoids and sigmoids == cell.sigmoids * (tangents // cell.tangents) for cell in _KINDS
    )
    return (OTHER_CELL, 0) if name or (likely and tangents and sigmoids) else None


def _state_alone(products: Sequence[MatrixProduct], gates: int) -> bool:
    """Whether the products are those of the state alone: their parameter is u x gates u.

    The program then computes the products of the input before the loop, where they look like any linear layer.
    """
    macs, outputs = sum(p.macs for p in products), sum(p.outputs for p in products)
    weight = sum(p.weight for p in products)
    return bool(weight) and weight == gates * (macs // outputs) ** 2
