"""Transformer: the parts of a language model that formulas of model FLOPs name.

Formulas such as 6 N + 12 L H Q T take their letters from a configuration. Here they come from the dataflow of a traced
forward pass, which `transformer_reader` reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from costax.analysis.other_tools.masks import Mask
from costax.core.cost import Count

_NOTHING: Final = frozenset[int]()


@dataclass(slots=True)
class Product:
    """A contraction of the forward pass, all its runs together.

    macs: its multiply-accumulates. size: the elements of the parameter in one run, 0 for a product of activations.
    shape: of that parameter. inner: the extent that is contracted. parameters: positions of the parameters among the
    inputs of the program. operands: for each operand, the products that it is computed from without another product in
    between. gathered: the parameter is looked up for each token. outputs: the elements of the results.
    """

    macs: Count
    size: Count = 0
    shape: tuple[Count, ...] = ()
    inner: Count = 1
    parameters: frozenset[int] = _NOTHING
    operands: tuple[frozenset[int], ...] = ()
    gathered: bool = False
    outputs: Count = 0

    @property
    def rows(self) -> Count:
        """The rows that meet the parameter, in all runs together."""
        return self.macs // self.size if self.size else 0


@dataclass(frozen=True, slots=True)
class Attention:
    """The two products of an attention.

    scores, values: positions of the products. keys: the length of a sequence; 0 if it is not known. macs: of both
    products, every query with every key; None if the program computes just that.
    """

    scores: int
    values: int
    keys: Count
    mask: Mask
    macs: Count | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """A choice of experts: the products that decide, the number of experts to choose from, and of chosen ones."""

    routers: frozenset[int]
    experts: Count
    chosen: int


@dataclass(slots=True)
class Parts:
    """What the reader finds. tables: parameters that tokens look up. positions: parameters that positions look up."""

    products: list[Product] = field(default_factory=list[Product])
    attentions: list[Attention] = field(default_factory=list[Attention])
    choices: list[tuple[int, Routing]] = field(default_factory=list["tuple[int, Routing]"])
    tables: set[int] = field(default_factory=set[int])
    positions: set[int] = field(default_factory=set[int])
    latent_norms: dict[int, Count] = field(default_factory=dict[int, Count])


@dataclass(frozen=True)
class Transformer:
    """A model, as formulas of model FLOPs see it. Numbers are of one forward pass of the whole program.

    parameters: the elements of each parameter, by position among the inputs. tokens: the rows that most weights see.
    """

    parts: Parts
    parameters: dict[int, Count]

    @property
    def products(self) -> list[Product]:
        """All contractions."""
        return self.parts.products

    @property
    def attentions(self) -> list[Attention]:
        """The attention layers."""
        return self.parts.attentions

    def attention_macs(self, attention: Attention) -> Count:
        """Return the MACs of an attention, every query with every key."""
        return self.computed_macs(attention) if attention.macs is None else attention.macs

    def computed_macs(self, attention: Attention) -> Count:
        """Return the MACs of an attention that the program computes: a kernel leaves out blocks."""
        return sum(self.products[number].macs for number in {attention.scores, attention.values})

    @cached_property
    def attended(self) -> frozenset[int]:
        """Return the positions of the products of attentions."""
        return frozenset(number for a in self.attentions for number in (a.scores, a.values))

    @cached_property
    def linear(self) -> list[int]:
        """Return the positions of the products with a parameter."""
        return [number for number, product in enumerate(self.products) if product.parameters]

    def projections(self, attention: Attention) -> tuple[frozenset[int], frozenset[int]]:
        """Return the linear layers that an attention's operands come from, and those that its result goes to."""
        before = frozenset(
            source
            for number in (attention.scores, attention.values)
            for operand in self.products[number].operands
            for source in operand
            if self.products[source].parameters
        )
        after = frozenset(
            number
            for number in self.linear
            if any(attention.values in operand for operand in self.products[number].operands)
        )
        return before, after

    @cached_property
    def routed(self) -> dict[int, tuple[int, Routing]]:
        """Return for each linear layer of experts its router and the choice of experts."""
        projections = {number for a in self.attentions for part in self.projections(a) for number in part}
        deciding = {number for _, choice in self.parts.choices for number in choice.routers}
        experts: dict[int, tuple[int, Routing]] = {}
        for number in self.linear:
            product = self.products[number]
            if number in projections or number in deciding or len(product.shape) < 3:
                continue
            fitting = [(at, choice) for at, choice in self.parts.choices if choice.experts in product.shape]
            if fitting:
                # The experts follow the choice; they may also be in program order before it.
                _, choice = max((c for c in fitting if c[0] <= number), key=lambda c: c[0], default=fitting[0])
                experts[number] = (max(choice.routers), choice)
        return experts

    @cached_property
    def routers(self) -> frozenset[int]:
        """Return the linear layers that choose experts."""
        return frozenset(router for router, _ in self.routed.values())

    def active_macs(self, number: int) -> Count:
        """Return the MACs of a linear layer; of experts, those of the chosen experts, each token once for each."""
        product, expert = self.products[number], self.routed.get(number)
        if expert is None or product.gathered:
            return product.macs
        router, choice = expert
        return self.products[router].rows * choice.chosen * product.size // choice.experts

    @property
    def tokens(self) -> Count:
        """The number of tokens: of all linear layers that are no experts, the rows that most weights see."""
        experts = self.routed
        seen: dict[Count, Count] = {}
        for number in self.linear:
            product = self.products[number]
            weight = sum(self.parameters[position] for position in product.parameters)
            if number not in experts and not product.gathered and weight:
                rows = product.macs // weight
                seen[rows] = seen.get(rows, 0) + weight
        return max(seen, key=lambda rows: seen[rows], default=0)
