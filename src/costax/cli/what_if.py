"""`costax what-if`: the costs of a program after quantisation or pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("what-if", short_help="Show the costs of TARGET after quantisation or pruning.")
@options.tracing
@click.option("--weights", metavar="SCHEME", help="Format of the parameters: fp32, bf16, fp16, fp8, int8, int4.")
@click.option("--activations", metavar="SCHEME", help="Format of all other arrays.")
@click.option(
    "--sparsity", multiple=True, metavar="SCOPE=SHARE", help="Share of the weights of a scope that are zero, 0 to 1."
)
@click.option("--fuse-multiply-add", is_flag=True, help="Count a multiply-accumulate as one operation.")
@click.option("--device", "name", help="Also show time and energy on this device.")
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
    """Show operations, sizes and traffic of TARGET after quantisation or pruning. The program itself is not changed.

    \b
    costax what-if examples/resnet.py:resnet18 --weights int8 --activations int8 --device h100-sxm
    costax what-if examples/gpt2.py:gpt2_small --sparsity '*/up=0.5' --sparsity '*/down=0.5'
    """
    from costax.cli.loading import analysed
    from costax.cli.programs import is_module, of_file
    from costax.report.what_if import render

    if is_module(target):
        of_file(target, {}).what_if()
    shares: dict[str, float] = {}
    for scope, share in map(_share, sparsity):
        options.add_once(shares, scope, share, "--sparsity")
    analysis = analysed(target, inputs, options.parsed_trips(trips), on_missing or "warn")
    change = analysis.what_if(
        weights=weights, activations=activations, sparsity=shares, fuse_multiply_add=fuse_multiply_add
    )
    terminal.show(render(change, name))


def _share(text: str) -> tuple[str, float]:
    scope, equals, number = text.rpartition("=")
    try:
        # Without an equals sign `number` is the whole text; "" is no float either.
        return scope, float(number if equals else "")
    except ValueError:
        raise click.BadParameter(f"{text!r} must be SCOPE=SHARE, such as */up=0.5.", param_hint="--sparsity") from None
