"""Model FLOPs: what frameworks count as the FLOPs of a training step, from which they print TFLOP/s and MFU.

All of them count three times the matrix products of the forward pass. They differ in attention (whole, or half because
of the causal mask), in experts and routers, and in whether parameters x tokens replace the products. Each formula is
written here as its differences from the products of the traced forward pass, so that the sum explains itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

from costax.analysis.other_tools.transformer import Attention, Transformer
from costax.core.cost import Count
from costax.core.polynomial import Polynomial


class Pairs(NamedTuple):
    """The share of the pairs of a query and a key that a formula counts: `counted` of `all`."""

    counted: Any
    all: Any = 1

    def of(self, macs: Count) -> Any:
        """Return this share of the MACs of an attention, every query with every key."""
        if not isinstance(macs, Polynomial) and not isinstance(self.all, Polynomial):
            return Fraction(macs * self.counted) / self.all
        # FLOPs, two for each MAC, are whole numbers: then the division of polynomials is exact.
        return (2 * macs * self.counted) // self.all * Fraction(1, 2)


Share = Callable[[Attention, bool], Pairs]
"""Returns the share that a formula counts. bool: some layer of the model has a window."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a formula counts more than the products of the forward pass, in MACs; negative for less.

    macs: half of the FLOPs, so it may be a fraction.
    """

    what: str
    macs: Any
    why: str


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula. source: the file, with the version that was read. differences: from the products of the program.

    halves: the formula halves attention whether or not the program has a causal mask.
    """

    source: str
    differences: Callable[[Transformer], list[Difference]]
    halves: bool = False


_EVERY: Final = "every query with every key"


def _half(attention: Attention, windows: bool) -> Pairs:
    return Pairs(1, 2)


def _whole(attention: Attention, windows: bool) -> Pairs:
    return Pairs(1)


def _maxtext_share(attention: Attention, windows: bool) -> Pairs:
    """Half of T x T; T x W - W^2 / 2 with a window of W; half the sum of squares of chunks."""
    mask, length = attention.mask, attention.keys
    if mask.window:
        return Pairs(2 * length * mask.window - mask.window**2, 2 * length**2)
    return _squares(attention) if mask.sequences and mask.chunked else Pairs(1, 2)


def _maxtext_whole_share(attention: Attention, windows: bool) -> Pairs:
    share = _maxtext_share(attention, windows)
    return share._replace(counted=2 * share.counted)


def _squares(attention: Attention) -> Pairs:
    """Half of the sum of the squared lengths of the sequences; the length is a number if there are several."""
    sequences = attention.mask.sequences
    total = sum(part**2 for lengths in sequences for part in lengths)
    return Pairs(total, 2 * len(sequences) * attention.keys**2) if sequences else Pairs(1, 2)


def _megatron_share(attention: Attention, windows: bool) -> Pairs:
    return _squares(attention)


def _nemo_share(attention: Attention, windows: bool) -> Pairs:
    """Half if the mask is causal; in a model with windows the exact numbers of pairs, as in `gpt_oss`."""
    mask, length = attention.mask, attention.keys
    if mask.window:
        return Pairs(mask.window * (mask.window + 1) // 2 + (length - mask.window) * mask.window, length**2)
    if not mask.causal:
        return Pairs(1)
    return Pairs(length + 1, 2 * length) if windows else Pairs(1, 2)


def _other(model: Transformer) -> Difference:
    known = model.attended | frozenset(model.linear)
    macs = sum(product.macs for number, product in enumerate(model.products) if number not in known)
    return Difference("other products", -macs, "the formula has no term for products outside of layers and attention")


def _experts(model: Transformer) -> Difference:
    macs = sum(model.active_macs(number) - model.products[number].macs for number in model.routed)
    return Difference("experts", macs, "each token counts once for each expert that it chooses")


def _routers(model: Transformer) -> Difference:
    macs = sum(model.products[number].macs for number in model.routers)
    return Difference("routers", -macs, "the formula has no term for them")


def _attention(model: Transformer, share: Share, why: str) -> Difference:
    windows = any(attention.mask.window for attention in model.attentions)
    macs: Any = 0
    for attention in model.attentions:
        macs += share(attention, windows).of(model.attention_macs(attention)) - model.computed_macs(attention)
    return Difference("attention", macs, why)


def _head_size(model: Transformer, share: Share) -> Difference:
    """The formulas take the width divided by the heads for the size of a head, whatever the program has."""
    windows = any(attention.mask.window for attention in model.attentions)
    macs: Any = 0
    for attention in model.attentions:
        before, after = model.projections(attention)
        outputs = {model.products[number].size // model.products[number].inner for number in after}
        inner = {model.products[number].inner for number in after}
        width = next(iter(outputs), 0)
        if len(outputs) != 1 or len(inner) != 1 or {model.products[n].inner for n in before} != {width}:
            continue  # a latent attention has sizes of its own
        factor = Fraction(int(width), int(next(iter(inner)))) - 1
        projected = sum(model.products[number].macs for number in before | after)
        macs += factor * (projected + share(attention, windows).of(model.attention_macs(attention)))
    return Difference("heads", macs, "the size of a head is taken to be width / heads")


def _parameters(model: Transformer, counted: Count, why: str) -> Difference:
    linear = sum(model.products[number].macs for number in model.linear)
    return Difference("parameters x tokens", counted * model.tokens - linear, why)


def _total(model: Transformer) -> Count:
    return sum(model.parameters.values())


def _maxtext(share: Share, why: str) -> Callable[[Transformer], list[Difference]]:
    return lambda model: [_other(model), _experts(model), _attention(model, share, why)]


def _megatron(model: Transformer) -> list[Difference]:
    products = model.products
    norms = sum(products[number].rows * scale for number, scale in model.parts.latent_norms.items())
    return [
        _other(model),
        _experts(model),
        _routers(model),
        _attention(model, _megatron_share, "half of the sum of squared sequence lengths, for the causal mask"),
        Difference("norms of latents", norms, "a norm between two projections counts as one more row"),
    ]


def _nemo(model: Transformer) -> list[Difference]:
    windows = any(attention.mask.window for attention in model.attentions)
    exact = "causal and windowed attention counts the pairs that are seen"
    parts = [
        _other(model),
        _experts(model),
        _routers(model),
        _attention(model, _nemo_share, exact if windows else "half if the mask is causal"),
    ]
    return parts if windows else [*parts, _head_size(model, _nemo_share)]


def _levanter(model: Transformer) -> list[Difference]:
    scores = sum(model.products[attention.scores].outputs for attention in model.attentions)
    return [
        _other(model),
        _experts(model),
        _attention(model, _whole, _EVERY),
        _head_size(model, _whole),
        # Three FLOPs a score are one and a half MACs.
        Difference("masks", scores * Fraction(3, 2), "3 FLOPs for each score"),
    ]


def _torchtitan(model: Transformer) -> list[Difference]:
    multiplied = {position for number in model.linear for position in model.products[number].parameters}
    tables = sum(model.parameters[p] for p in (model.parts.tables | model.parts.positions) - multiplied)
    chosen = {p: choice for n, (_, choice) in model.routed.items() for p in model.products[n].parameters}
    idle = sum(
        model.parameters[position] - model.parameters[position] * choice.chosen // choice.experts
        for position, choice in chosen.items()
    )
    why = "active parameters without embeddings"
    return [
        _other(model),
        _parameters(model, _total(model) - tables - idle, why),
        _attention(model, _whole, _EVERY),
    ]


def _nanogpt(model: Transformer) -> list[Difference]:
    positions = sum(model.parameters[position] for position in model.parts.positions)
    why = "all parameters but those of positions"
    return [_other(model), _parameters(model, _total(model) - positions, why), _attention(model, _whole, _EVERY)]


def _llm_c(model: Transformer) -> list[Difference]:
    why = "6 L C T for each token, half of whole attention"
    return [_other(model), _parameters(model, _total(model), "all parameters"), _attention(model, _half, why)]


def _palm(model: Transformer) -> list[Difference]:
    return [_other(model), _parameters(model, _total(model), "all parameters"), _attention(model, _whole, _EVERY)]


_MAXTEXT: Final = "AI-Hypercomputer/maxtext e591f30cb, calculate_tflops_training_per_device"
_CAUSAL: Final = "half for the causal mask; T W - W^2 / 2 with a window, half the squares of chunks"

FORMULAS: Final[Mapping[str, Formula]] = {
    "maxtext": Formula(_MAXTEXT, _maxtext(_maxtext_share, _CAUSAL), halves=True),
    "maxtext:noncausal": Formula(
        f"{_MAXTEXT}, before pull request 1988 (July 2025)",
        _maxtext(_maxtext_whole_share, "twice the causal number: whole without a window"),
    ),
    "megatron:2025": Formula("NVIDIA/Megatron-LM d98e8a64, num_floating_point_operations", _megatron, halves=True),
    "nemo": Formula("NVIDIA-NeMo/NeMo 8cfedd72, flops_formulas", _nemo),
    "torchtitan": Formula("pytorch/torchtitan b5bcd76c, get_moe_model_nparams_and_flops", _torchtitan),
    "levanter": Formula("stanford-crfm/levanter 9263f81e, lm_flops_per_token", _levanter),
    "nanogpt": Formula("karpathy/nanoGPT, estimate_mfu", _nanogpt),
    "llm.c": Formula("karpathy/llm.c, gpt2_estimate_mfu", _llm_c, halves=True),
    "palm": Formula("Chowdhery et al. 2022, appendix B", _palm),
    "palm-mfu": Formula("Chowdhery et al. 2022, appendix B", _palm),
}
"""The formulas by name."""


def notes_of(model: Transformer, formula: Formula) -> list[str]:
    """Return what the formula could not read from the program."""
    masks = [attention.mask for attention in model.attentions]
    notes: list[str] = []
    if not masks:
        notes.append("No attention was found: a product of two activations, a softmax, and a product with a third.")
    if formula.halves and any(not mask.causal for mask in masks):
        notes.append("The formula halves attention, though the program's mask is not known to be causal.")
    if any(not mask.known for mask in masks):
        notes.append("A mask is decided by data or a kernel: windows and packed sequences in it do not count.")
    if any(attention.mask.window and isinstance(attention.keys, Polynomial) for attention in model.attentions):
        notes.append("The formula holds where sequences are longer than the windows.")
    if any(product.gathered for product in model.products):
        notes.append("Experts that are looked up for each token count as the program multiplies them.")
    return notes


def whole_number(count: Any) -> Count:
    """Return a count without the type of a fraction; a fraction of a FLOP is rounded down."""
    return count.numerator // count.denominator if isinstance(count, Fraction) else count
