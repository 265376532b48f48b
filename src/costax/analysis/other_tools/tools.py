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
from costax.analysis.other_tools.recurrent import GRU, LSTM, RECURRENT, SIMPLE_RNN
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


_NO_SDPA: Final = Weight(
    lambda layer: layer.count if layer.alone else 0,
    "scaled_dot_product_attention has no rule and counts 0",
    defect=True,
)
_NO_MHA: Final = _nothing("scaled_dot_product_attention has no rule and counts 0")
_NO_MATMUL: Final = _nothing("only modules count: a product outside of a module counts 0")


def _linear_modules(layer: ToolLayer) -> Count:
    return 0 if layer.fused else layer.count


_LINEAR_MODULES: Final = Weight(
    _linear_modules, "the projections of nn.MultiheadAttention are functions and count 0", defect=True
)


def _gates(per_unit: int, why: str) -> Weight:
    return Weight(lambda layer: layer.count + per_unit * layer.outputs, why)


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
    },
)

THOP: Final = Tool(
    "MACs",
    "thop 0.1.1",
    weights={
        ATTENTION: _NO_MATMUL,
        PRODUCT: _NO_MATMUL,
        LINEAR: _LINEAR_MODULES,
        BATCH_NORM: _norm(4, 2, "4 an element, 2 without scale, although it states that inference fuses it"),
        LAYER_NORM: _norm(4, 2, "4 an element, 2 without scale"),
        GROUP_NORM: _nothing("nn.GroupNorm has no rule and counts 0"),
        AVERAGE_POOL: Weight(lambda layer: layer.outputs, "1 an element of the output"),
        GLOBAL_POOL: Weight(lambda layer: layer.count + layer.outputs, "1 an element of the input and 1 of the output"),
        LSTM: _gates(16, "16 a unit and step: 12 for sums and biases of the gates, 4 for the new state"),
        GRU: _gates(13, "13 a unit and step: 9 for sums and biases of the gates, 4 for the new state"),
        SIMPLE_RNN: _gates(3, "3 a unit and step, for the sum and two biases"),
    },
)


def _ptflops_function(layer: ToolLayer) -> Count:
    return layer.count if layer.name == "relu6" else 2 * layer.count


def _ptflops_attention(layer: ToolLayer) -> Count:
    # One operation for each element of the softmax, and for each element of the queries, which are scaled. Alone,
    # nn.MultiheadAttention returns its weights: its products are then also functions, and count twice.
    return layer.count * (2 if layer.alone else 1) + (layer.outputs if layer.fused else 0)


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
        SOFTMAX: Weight(lambda layer: layer.count if layer.alone else 0, "1 an element of a function", defect=True),
        LSTM: _gates(18, "18 a unit and step: 8 for biases, 10 for gates and the new state"),
        GRU: _gates(13, "13 a unit and step: 6 for biases, 7 for gates and the new state"),
        SIMPLE_RNN: _gates(3, "3 a unit and step: 2 for biases, 1 for the sum"),
    },
)

PTFLOPS_ATEN: Final = Tool(
    "MACs",
    "ptflops 0.7.5, backend aten",
    weights={ATTENTION: _NO_SDPA, BIAS: _times(1, "1 an element of the output"), LSTM: _NO_RECURRENCE},
)


def _torchinfo_linear(layer: ToolLayer) -> Count:
    return layer.weight if not layer.fused else 0


TORCHINFO: Final = Tool(
    "mult-adds",
    "torchinfo 1.8.0, batch 1",
    weights={
        ATTENTION: _NO_MATMUL,
        PRODUCT: _NO_MATMUL,
        LINEAR: Weight(_torchinfo_linear, "parameters x batch: the tokens of a sequence do not count", defect=True),
        BIAS: Weight(lambda layer: 0 if layer.fused else _torchinfo_bias(layer), "a bias is a parameter and counts"),
        BATCH_NORM: Weight(lambda layer: layer.weight, "parameters x batch"),
        LAYER_NORM: Weight(lambda layer: layer.weight, "parameters x batch"),
        GROUP_NORM: Weight(lambda layer: layer.weight, "parameters x batch"),
        EMBEDDING: Weight(lambda layer: layer.weight, "parameters x batch, though nothing multiplies", defect=True),
        LSTM: _gates(8, "parameters x batch x steps: two biases of each gate"),
        GRU: _gates(6, "parameters x batch x steps: two biases of each gate"),
        SIMPLE_RNN: _gates(2, "parameters x batch x steps: two biases"),
    },
)


def _torchinfo_bias(layer: ToolLayer) -> Count:
    return layer.count if layer.of_convolution else layer.weight


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
            GRU: _times(2, "2 FLOPs a MAC"),
        },
        training=True,
    ),
}
"""The tools by name. An attention layer counts as torch's fused attention, which models use."""
