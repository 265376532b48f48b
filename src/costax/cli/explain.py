"""`costax explain`: the rule of a primitive."""

from __future__ import annotations

import click

from costax.cli import options


@click.command(short_help="Explain what a PRIMITIVE costs, with worked examples.")
@click.argument("primitive")
@options.debug
def explain(primitive: str) -> None:
    """Explain what a PRIMITIVE costs: its rule, the formula, and worked examples with XLA's count."""
    from costax.analysis.explain import explain as explanation_of

    click.echo(str(explanation_of(primitive)))
