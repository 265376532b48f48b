"""Save, print and check what a command counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from costax.cli import terminal
from costax.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from costax.analysis.analysis import Analysis
    from costax.report.shown import Shown


def deliver(account: Shown, table: Mapping[str, Any], *, form: str | None, save: Sequence[str], strict: bool) -> None:
    """Save, print and check an account as the options say. Raises CheckError if it is to be exact and is not.

    form: the format that is printed, one of `report.FORMATS`, or None for the terminal's.
    """
    from costax import report

    for path in save:
        report.save(account, path, **table)
    if form is not None:
        terminal.write(report.as_format(form, type(account))(account, **table))
    else:
        terminal.show(report.renderable(account, **table))
    if strict:
        check_exact(report.analysis_of(account))


def check_exact(analysis: Analysis) -> None:
    """Raise CheckError unless every number is exact."""
    from costax.report.notes import gaps, open_loops

    if analysis.exact and not open_loops(analysis):
        return
    raise CheckError(
        f"Not every number of `{analysis.name}` is exact.",
        why="\n".join([*gaps(analysis), *open_loops(analysis)]),
        cure="Answer the loops with --trips and give the primitives a rule, or leave --strict out.",
    )


def check_table(by: str, sort: str | None) -> None:
    """Raise click's BadParameter for a table that an analysis does not have."""
    if by in ("opcode", "computation"):
        raise click.BadParameter(f"a jaxpr has primitives; {by}s are those of an HLO module.", param_hint="--by")
    if sort == "params" and by != "scope":
        raise click.BadParameter(f"parameters belong to scopes; --by {by} has none.", param_hint="--sort")


def check_files(paths: Sequence[str]) -> None:
    """Refuse a file that could not be written before the work is done."""
    if paths:
        from costax.report import check_file

        for path in paths:
            check_file(path)
