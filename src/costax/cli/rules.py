"""`costax rules`: every primitive that has a rule."""

from __future__ import annotations

import click

from costax.cli import options, terminal


@click.command(short_help="List every primitive that has a rule.")
@options.debug
def rules() -> None:
    """List every primitive that has a rule: its family, and what kind of rule it is."""
    from costax.analysis.analyze import rules as every_rule
    from costax.analysis.explain import family, kind
    from costax.report.text import columns

    lines = [(rule.name, family(rule), kind(rule), rule.free) for rule in every_rule().values()]
    terminal.show(columns(("primitive", "family", "kind", "why it is free"), lines))
