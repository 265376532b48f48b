"""The counting rules of each tool: its version, its count for each kind of layer, and known defects.

A contraction without an entry counts as in costax; any other kind of layer without an entry counts 0. Source: the code
of the tools, and their numbers for torchvision's models (`benchmarks/peers.py` runs the tools again).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from costax.analysis.other_tools.layers import (
    ACTIVATION,
    ATTENTION,
    AVERAGE_POOL,
    BATCH_NORM,
    BIAS,
    CONVOLUTION,
    EMBEDDING,
    GLOBAL_POOL,
    GROUP_NORM,
    LAYER_NORM,
    LINEAR,
    MAX_POOL,
    PRODUCT,
    SOFTMAX,
    ToolLayer,
)
from costax.analysis.other_tools.recurrent import (
    GRU,
    GRU_CELL,
    LSTM,
    LSTM_CELL,
    RECURRENT,
    SIMPLE_CELL,
    SIMPLE_RNN,
    TORCH_CELLS,
)
from costax.core.cost import Count
from costax.program.tree import FORWARD


@dataclass(frozen=True, slots=True)
class Weight:
    """The count of a tool for a kind of layer, the explanation, and whether it is a known defect."""

    count: Callable[[ToolLayer], Count]
    why: str
    defect: bool = False


@dataclass(frozen=True)
class Tool:
    """A tool.

    unit: of its number. version: the version that was read and run. mac: the count of a multiply-accumulate. weights:
    the count for each kind of layer. training: the tool counts backward passes too; the others only forward passes.
    """

    unit: str
    version: str
    mac: int = 1
    weights: Mapping[str, Weight] = field(default_factory=dict[str, Weight])
    training: bool = False

    def weight(self, kind: str) -> Weight | None:
        """Return the count for a kind of layer, or None if contractions count as in costax and other layers 0."""
        return self.weights.get(kind, self._convolution if kind == CONVOLUTION else None)

    @property
    def _convolution(self) -> Weight:
        return Weight(lambda layer: self.mac * layer.positions, "all taps at all output positions")

    def does_not_know(self, kind: str) -> bool:
        """Return whether the number for a kind of layer cannot be told: it was not measured."""
        return kind in RECURRENT and kind not in self.weights and bool(self.weights)

    def needs_parameters(self, *, training: bool) -> bool:
        """Return whether the number depends on which inputs are parameters: biases, norms and gradients do."""
        return bool(self.weights) and (training or not self.training)


def _times(factor: int, why: str, *, defect: bool = False) -> Weight:
    return Weight(lambda layer: factor * layer.count, why, defect)


def _norm(affine: int, plain: int, why: str) -> Weight:
    return Weight(lambda layer: layer.count * (affine if layer.affine else plain), why)


def _batch_norm(why: str) -> Weight:
    def count(layer: ToolLayer) -> Count:
        per_element = (5 if layer.affine else 4) if layer.training else (2 if layer.affine else 1)
        return layer.count * per_element

    return Weight(count, why)


def _nothing(why: str) -> Weight:
    return _times(0, why, defect=True)


def _separate(layer: ToolLayer) -> Count:
    return layer.count if layer.separate else 0


_NO_SDPA: Final = Weight(_separate, "scaled_dot_product_attention has no rule and counts 0", defect=True)
_NO_MHA: Final = Weight(
    lambda layer: 0 if layer.fused else _separate(layer),
    "scaled_dot_product_attention and the products of nn.MultiheadAttention have no rule and count 0",
    defect=True,
)
_NO_MATMUL: Final = _nothing("only modules count: a product outside of a module counts 0")


def _linear_modules(layer: ToolLayer) -> Count:
    return 0 if layer.fused else layer.count


_LINEAR_MODULES: Final = Weight(
    _linear_modules, "the projections of nn.MultiheadAttention are functions and count 0", defect=True
)


def _gates(biased: int, plain: int, why: str) -> Weight:
    """Return the count of a recurrent layer: its MACs, and so many a unit and step with and without biases."""
    return Weight(lambda layer: layer.count + (biased if layer.biased else plain) * layer.outputs, why)


_NO_RECURRENCE: Final = _nothing("recurrent layers have no rule and count 0")

FVCORE: Final = Tool(
    "MACs",
    "fvcore 0.1.5.post20221221",
    weights={
        ATTENTION: _NO_SDPA,
        BATCH_NORM: _batch_norm("2 an element, 1 without scale; 5 and 4 in training"),
        LAYER_NORM: _norm(5, 4, "5 an element, 4 without scale: a rough estimate, according to the tool"),
        GROUP_NORM: _norm(5, 4, "5 an element, 4 without scale: a rough estimate, according to the tool"),
        GLOBAL_POOL: _times(1, "1 an element of the input"),
        **dict.fromkeys((LSTM, GRU, SIMPLE_RNN), _NO_RECURRENCE),
        **dict.fromkeys(TORCH_CELLS, _times(1, "the products of nn.LSTMCell and the like count")),
    },
)

_THOP_LSTM: Final = _gates(16, 8, "16 a unit and step: 12 for sums and biases of the gates, 4 for the new state")
_THOP_GRU: Final = _gates(13, 7, "13 a unit and step: 9 for sums and biases of the gates, 4 for the new state")
_THOP_RNN: Final = _gates(3, 1, "3 a unit and step, for the sum and two biases")
_THOP_WEIGHTS: Final[Mapping[str, Weight]] = {
    CONVOLUTION: Weight(lambda layer: layer.positions, "all taps at all output positions of a module"),
    LINEAR: _LINEAR_MODULES,
    BATCH_NORM: _norm(4, 2, "4 an element, 2 without scale, although it states that inference fuses it"),
    LAYER_NORM: _norm(4, 2, "4 an element, 2 without scale"),
    AVERAGE_POOL: Weight(lambda layer: layer.outputs, "1 an element of the output"),
    GLOBAL_POOL: Weight(lambda layer: layer.count + layer.outputs, "1 an element of the input and 1 of the output"),
    LSTM: _THOP_LSTM,
    LSTM_CELL: _THOP_LSTM,
    GRU: _THOP_GRU,
    GRU_CELL: _THOP_GRU,
    SIMPLE_RNN: _THOP_RNN,
    SIMPLE_CELL: _THOP_RNN,
}
# The classes of torch that thop counts, by kind of layer; it compares classes, so a subclass counts 0.
_THOP_CLASSES: Final[Mapping[str, frozenset[str]]] = {
    CONVOLUTION: frozenset(f"Conv{kind}{d}d" for kind in ("", "Transpose") for d in (1, 2, 3)),
    LINEAR: frozenset({"Linear"}),
    BATCH_NORM: frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"}),
    LAYER_NORM: frozenset({"LayerNorm"}),
    AVERAGE_POOL: frozenset({"AvgPool1d", "AvgPool2d", "AvgPool3d"}),
    GLOBAL_POOL: frozenset({"AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"}),
    LSTM: frozenset({"LSTM"}),
    LSTM_CELL: frozenset({"LSTMCell"}),
    GRU: frozenset({"GRU"}),
    GRU_CELL: frozenset({"GRUCell"}),
    SIMPLE_RNN: frozenset({"RNN"}),
    SIMPLE_CELL: frozenset({"RNNCell"}),
}


def _of_classes(weight: Weight, classes: frozenset[str]) -> Weight:
    """Return the weight for these classes of modules of torch alone; for every layer of a program of jax."""

    def count(layer: ToolLayer) -> Count:
        return 0 if layer.torch and layer.module not in classes else weight.count(layer)

    return Weight(count, weight.why, weight.defect)


THOP: Final = Tool(
    "MACs",
    "thop 0.1.1",
    weights={
        ATTENTION: _NO_MATMUL,
        PRODUCT: _NO_MATMUL,
        GROUP_NORM: _nothing("nn.GroupNorm has no rule and counts 0"),
        **{kind: _of_classes(weight, _THOP_CLASSES[kind]) for kind, weight in _THOP_WEIGHTS.items()},
    },
)


def _ptflops_function(layer: ToolLayer) -> Count:
    return layer.count if layer.name == "relu6" else 2 * layer.count


def _ptflops_attention(layer: ToolLayer) -> Count:
    # One operation for each element of the softmax, and for each element of the queries, which are scaled. If
    # nn.MultiheadAttention returns its weights, its products are also functions, and count twice.
    return layer.count * (2 if _of_attention(layer) else 1) + (layer.outputs if layer.fused else 0)


def _of_attention(layer: ToolLayer) -> bool:
    return layer.fused and layer.separate


PTFLOPS: Final = Tool(
    "MACs",
    "ptflops 0.7.5, backend pytorch",
    weights={
        BIAS: _times(1, "1 an element of the output"),
        BATCH_NORM: _norm(2, 1, "2 an element, 1 without scale"),
        LAYER_NORM: _times(1, "1 an element"),
        GROUP_NORM: _norm(2, 1, "2 an element, 1 without scale"),
        ACTIVATION: Weight(_ptflops_function, "1 an element, twice: module and function (ReLU6 once)", defect=True),
        MAX_POOL: Weight(_ptflops_function, "1 an element of the input, twice: module and function", defect=True),
        AVERAGE_POOL: Weight(_ptflops_function, "1 an element of the input, twice: module and function", defect=True),
        GLOBAL_POOL: Weight(_ptflops_function, "1 an element of the input, twice: module and function", defect=True),
        ATTENTION: Weight(_ptflops_attention, "softmax and scaled queries, 1 an element, of nn.MultiheadAttention"),
        SOFTMAX: Weight(
            lambda layer: layer.count if _of_attention(layer) else 0, "1 an element of a function", defect=True
        ),
        LSTM: _gates(18, 10, "18 a unit and step: 8 for biases, 10 for gates and the new state"),
        GRU: _gates(13, 7, "13 a unit and step: 6 for biases, 7 for gates and the new state"),
        SIMPLE_RNN: _gates(3, 1, "3 a unit and step: 2 for biases, 1 for the sum"),
    },
)

PTFLOPS_ATEN: Final = Tool(
    "MACs",
    "ptflops 0.7.5, backend aten",
    weights={ATTENTION: _NO_SDPA, BIAS: _times(1, "1 an element of the output"), LSTM: _NO_RECURRENCE},
)


def _of_torchinfo(count: Callable[[ToolLayer], Count], why: str, *, defect: bool = False) -> Weight:
    return Weight(lambda layer: count(layer) if layer.leaf and not layer.fused else 0, why, defect)


def _parameters(why: str, *, defect: bool = False) -> Weight:
    return _of_torchinfo(lambda layer: layer.weight, why, defect=defect)


TORCHINFO: Final = Tool(
    "mult-adds",
    "torchinfo 1.8.0, batch 1",
    weights={
        ATTENTION: _NO_MATMUL,
        PRODUCT: _NO_MATMUL,
        CONVOLUTION: _of_torchinfo(lambda layer: layer.positions, "parameters x output positions"),
        LINEAR: _parameters("parameters x batch: the tokens of a sequence do not count", defect=True),
        BIAS: _of_torchinfo(
            lambda layer: layer.count if layer.of_convolution else layer.weight, "a bias is a parameter and counts"
        ),
        BATCH_NORM: _parameters("parameters x batch"),
        LAYER_NORM: _parameters("parameters x batch"),
        GROUP_NORM: _parameters("parameters x batch"),
        EMBEDDING: _parameters("parameters x batch, though nothing multiplies", defect=True),
        LSTM: _gates(8, 0, "parameters x batch x steps: two biases of each gate"),
        GRU: _gates(6, 0, "parameters x batch x steps: two biases of each gate"),
        SIMPLE_RNN: _gates(2, 0, "parameters x batch x steps: two biases"),
    },
)


_DEEPSPEED: Final = {
    BATCH_NORM: _batch_norm("2 an element, 1 without scale; 5 and 4 in training"),
    LAYER_NORM: _norm(5, 4, "5 an element, 4 without scale: an estimate, according to the tool"),
    GROUP_NORM: _norm(5, 4, "5 an element, 4 without scale: an estimate, according to the tool"),
    ACTIVATION: Weight(lambda layer: 0 if layer.name == "relu6" else layer.count, "1 an element; 0 of nn.ReLU6"),
    MAX_POOL: _times(1, "1 an element of the input"),
    AVERAGE_POOL: _times(1, "1 an element of the input"),
    GLOBAL_POOL: _times(1, "1 an element of the input"),
    BIAS: Weight(
        lambda layer: layer.count if layer.of_convolution else 0, "1 an output of a convolution; 0 of nn.Linear"
    ),
}


def _ungrouped(layer: ToolLayer) -> Count:
    weight_gradient = layer.direction != FORWARD and not layer.weight
    return 2 * layer.positions * (layer.groups if weight_gradient else 1)


TOOLS: Final[Mapping[str, Tool]] = {
    "torchvision": Tool("MACs", "torchvision 0.29, weights.meta['_ops']"),
    "fvcore": FVCORE,
    "thop": THOP,
    "ptflops": PTFLOPS,
    "ptflops:aten": PTFLOPS_ATEN,
    "torchinfo": TORCHINFO,
    "deepspeed": Tool("FLOPs", "DeepSpeed 0.19.8", mac=2, weights=_DEEPSPEED),
    "deepspeed:macs": Tool("MACs", "DeepSpeed 0.19.8", weights={LSTM: _NO_RECURRENCE}),
    "calflops": Tool("FLOPs", "calflops 0.3.2", mac=2, weights={**_DEEPSPEED, ATTENTION: _NO_MHA}),
    "calflops:macs": Tool("MACs", "calflops 0.3.2", weights={ATTENTION: _NO_MHA, LSTM: _NO_RECURRENCE}),
    "torch": Tool(
        "FLOPs",
        "torch 2.15 FlopCounterMode",
        mac=2,
        weights={
            CONVOLUTION: Weight(_ungrouped, "weight gradients of grouped convolutions are not divided", defect=True),
            LSTM: _nothing("the fused kernel of the CPU has no rule and counts 0"),
            **dict.fromkeys((GRU, SIMPLE_RNN, *TORCH_CELLS), _times(2, "2 FLOPs a MAC")),
        },
        training=True,
    ),
}
"""The tools by name. An attention layer counts as torch's fused attention, which models use."""
