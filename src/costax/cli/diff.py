"""`costax diff`: the costs of two programs, layer by layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from costax.cli import options, terminal
from costax.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from costax.analysis.analysis import Analysis


@click.command(short_help="Show how costs change from BEFORE to AFTER, by layer.")
@click.argument("before")
@click.argument("after")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes; by default all.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="FIELD",
    help="Count to show: macs, params, flops, ops ... Repeat for more.",
)
@click.option("--merge/--no-merge", default=True, help="Equal layers share one line, or each has its own.")
@click.option(
    "--changed", "only_changed", is_flag=True, help="Leave out the layers that are the same in both programs."
)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="THRESHOLD",
    help="Exit with 1 if a cost exceeds the threshold, such as 'flops > +1%'. Repeat for more.",
)
@click.option("--markdown", is_flag=True, help="Print a Markdown summary for a pull request instead of the table.")
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
    """Show how costs change from BEFORE to AFTER, layer by layer. Each is a TARGET or a saved record (.json).

    \b
    costax diff examples/conv.py:standard examples/conv.py:depthwise_separable
    costax diff before.json examples/resnet.py:resnet18 --changed
    costax diff main.json branch.json --fail-on 'flops > +1%' --fail-on 'params > +0' --markdown
    """
    from costax.analysis import thresholds, views
    from costax.analysis.diff import diff as compare
    from costax.report import diff, pull_request

    _check(fields)
    asked = [thresholds.parse(text) for text in fail_on]
    compared = compare(_analysis(before), _analysis(after))
    failures = thresholds.failures(compared, asked)
    if as_json:
        click.echo(json.dumps(diff.to_record(compared, depth), indent=1))
    elif markdown:
        click.echo(pull_request.as_markdown(compared, failures), nl=False)
    else:
        shown = fields or diff.DEFAULT
        table = compare(*views.merged_alike(compared.before, compared.after)) if merge else compared
        terminal.show(diff.render(table, fields=shown, depth=depth, only_changed=only_changed))
    if failures:
        raise BudgetError(
            f"`{compared.after.name}` fails the thresholds of --fail-on.",
            why="\n".join(f"  {failure}" for failure in failures),
            cure="Reduce the costs, or change the thresholds of --fail-on.",
        )


def _check(names: Sequence[str]) -> None:
    from costax.analysis.diff import fields

    for name in names:
        if name not in fields():
            raise click.BadParameter(f"{name!r} must be one of {', '.join(fields())}.", param_hint="--field")


def _analysis(text: str) -> Analysis:
    if text.endswith(".json"):
        from costax.report import load

        return load(text)
    from costax.cli.loading import analysed

    return analysed(text, (), {}, "raise")
