"""`costax diff`: what a substitution buys, layer by layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal
from costax.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from costax.analysis.analysis import Analysis


@click.command(short_help="Show what changes from BEFORE to AFTER, layer by layer.")
@click.argument("before")
@click.argument("after")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes; all by default.")
@click.option("--field", "fields", multiple=True, metavar="FIELD", help="What to show: macs, params, flops, ops ...")
@click.option("--merge/--no-merge", default=True, help="Equal layers share a line, or each has its own.")
@click.option("--changed", "only_changed", is_flag=True, help="Leave out the layers that are the same in both.")
@click.option(
    "--fail-on", multiple=True, metavar="CONDITION", help="Exit with 1 where it holds: 'flops > +1%'. Repeat."
)
@click.option("--markdown", is_flag=True, help="Print a summary for a pull request instead of the table.")
@click.option("--json", "as_json", is_flag=True, help="Print every field of every layer as JSON.")
@options.debug
def diff(
    before: str,
    after: str,
    depth: int | None,
    fields: Sequence[str],
    merge: bool,
    only_changed: bool,
    fail_on: Sequence[str],
    markdown: bool,
    as_json: bool,
) -> None:
    """Show what changes from BEFORE to AFTER, layer by layer. Each is a TARGET or a saved record (.json).

    \b
    costax diff examples/conv.py:standard examples/conv.py:depthwise_separable
    costax diff before.json examples/resnet.py:resnet18 --changed
    costax diff main.json branch.json --fail-on 'flops > +1%' --fail-on 'params > +0' --markdown
    """
    from costax.analysis import thresholds, views
    from costax.analysis.diff import diff as difference
    from costax.report import diff, pull_request

    _check(fields)
    asked = [thresholds.parse(text) for text in fail_on]
    found = difference(_analysis(before), _analysis(after))
    failures = thresholds.failures(found, asked)
    if as_json:
        click.echo(json.dumps(diff.to_record(found, depth), indent=1))
    elif markdown:
        click.echo(pull_request.as_markdown(found, failures), nl=False)
    else:
        shown = fields or diff.DEFAULT
        table = difference(*views.merged_alike(found.before, found.after)) if merge else found
        terminal.show(diff.render(table, fields=shown, depth=depth, only_changed=only_changed))
    if failures:
        raise BudgetError(
            f"`{found.after.name}` costs more than it may.",
            why="\n".join(f"  {failure}" for failure in failures),
            cure="Make it cheaper, or raise the limits of --fail-on.",
        )


def _check(names: Sequence[str]) -> None:
    from costax.analysis.diff import fields

    for name in names:
        if name not in fields():
            raise click.BadParameter(f"{name!r} is none of {', '.join(fields())}.", param_hint="--field")


def _analysis(text: str) -> Analysis:
    if text.endswith(".json"):
        from costax.report import load

        return load(text)
    from costax.cli.loading import analysed

    return analysed(text, (), {}, "raise")
