"""`costax what-if`: a program under quantisation and pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("what-if", short_help="Show TARGET under quantisation and pruning.")
@options.tracing
@click.option("--weights", metavar="SCHEME", help="How parameters are stored: fp32, bf16, fp16, fp8, int8, int4.")
@click.option("--activations", metavar="SCHEME", help="How all other arrays are stored.")
@click.option("--sparsity", multiple=True, metavar="SCOPE=SHARE", help="Share of the weights that are zero.")
@click.option("--fuse-multiply-add", is_flag=True, help="Count a multiply-accumulate as one operation.")
@click.option("--device", "name", help="Also say time and energy on this device.")
@options.debug
def what_if(
    target: str,
    inputs: Sequence[str],
    trips: Sequence[str],
    on_missing: str | None,
    weights: str | None,
    activations: str | None,
    sparsity: Sequence[str],
    fuse_multiply_add: bool,
    name: str | None,
) -> None:
    """Show operations, sizes and traffic of TARGET with other weights and activations, or pruned. Nothing is changed.

    \b
    costax what-if examples/resnet.py:resnet18 --weights int8 --activations int8 --device h100-sxm
    costax what-if examples/gpt2.py:gpt2_small --sparsity '*/up=0.5' --sparsity '*/down=0.5'
    """
    from costax.cli.loading import analysed
    from costax.report.what_if import render

    shares = dict(_share(text) for text in sparsity)
    analysis = analysed(target, inputs, options.parsed_trips(trips), on_missing or "warn")
    found = analysis.what_if(
        weights=weights, activations=activations, sparsity=shares, fuse_multiply_add=fuse_multiply_add
    )
    terminal.show(render(found, name))


def _share(text: str) -> tuple[str, float]:
    scope, equals, number = text.rpartition("=")
    try:
        return scope, float(number) if equals else float("nan")
    except ValueError:
        raise click.BadParameter(f"{text!r} is no SCOPE=SHARE.", param_hint="--sparsity") from None
