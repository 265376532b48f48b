"""`costax explain`: what a primitive costs."""

from __future__ import annotations

import click

from costax.cli import options


@click.command(short_help="Say what a PRIMITIVE costs, with worked examples.")
@click.argument("primitive")
@options.debug
def explain(primitive: str) -> None:
    """Say what a PRIMITIVE costs: its rule, the law in words, and worked examples beside XLA's count."""
    from costax.analysis.explain import explain as explained

    click.echo(str(explained(primitive)))
