"""`costax rules`: the list of all rules."""

from __future__ import annotations

import click

from costax.cli import options, terminal


@click.command(short_help="List every primitive that has a rule.")
@options.debug
def rules() -> None:
    """List every primitive that has a rule, with its family, the kind of the rule, and why a free primitive is free."""
    from costax.analysis.analyze import rules as all_rules
    from costax.analysis.explain import family, kind
    from costax.report.text import columns

    lines = [(rule.name, family(rule), kind(rule), rule.free) for rule in all_rules().values()]
    terminal.show(columns(("primitive", "family", "kind", "why it is free"), lines))
