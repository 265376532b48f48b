"""Save, print and check the result of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from costax.cli import terminal
from costax.errors import CheckError, RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from costax.analysis.analysis import Analysis
    from costax.report.shown import Shown


def deliver(
    account: Shown,
    table: Mapping[str, Any],
    *,
    form: str | None,
    save: Sequence[str],
    strict: bool,
    shown: Any = None,
) -> None:
    """Save, print and check an analysis or a comparison.

    Raises CheckError if `strict` and a number is not exact, RecordError for a file that cannot be written.

    table: the options of the table. form: the format to print, one of `report.FORMATS`; None prints tables.
    shown: what rich prints in their place.
    """
    from costax import report

    unsaved: RecordError | None = None
    for path in save:
        try:
            report.save(account, path, **lines_of(table, report.check_file(path, type(account))))
        except RecordError as error:
            # The work of the command, such as a long compile, is shown all the same.
            unsaved = unsaved or error
    if form is not None:
        terminal.write(report.as_format(form, type(account))(account, **lines_of(table, form)))
    else:
        terminal.show(report.renderable(account, **table) if shown is None else shown)
    if unsaved is not None:
        raise unsaved
    if strict:
        check_exact(report.analysis_of(account), compared=hasattr(account, "compiled"))
        check_explained(account)
        check_compiled(account)


def lines_of(table: Mapping[str, Any], form: str) -> Mapping[str, Any]:
    """Return the options of a table for a format: a CSV has all rows unless the user asked for lines of a table."""
    context = click.get_current_context(silent=True)
    asked = context is not None and any(context.get_parameter_source(name) in _ASKED for name in table)
    return table if asked or form != "csv" else {}


_ASKED: Final = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
_WITHOUT_CONDITIONAL: Final = "call the function of the branch itself, without the conditional,"


def check_exact(analysis: Analysis, *, compared: bool = False) -> None:
    """Raise CheckError unless every number is exact. compared: the analysis is that of a comparison."""
    from costax.report.notes import gaps, open_loops

    if analysis.exact:
        return
    raise CheckError(
        f"Some numbers of `{analysis.name}` are not exact or not known.",
        why="\n".join([*gaps(analysis), *open_loops(analysis)]),
        cure=_cure(
            ("set trip counts with --trips", analysis.unknowns),
            (_WITHOUT_CONDITIONAL if compared else "choose branches with --branches", analysis.choices),
            ("write rules for the primitives", analysis.uncounted),
        ),
    )


def _cure(*cures: tuple[str, object]) -> str:
    """Return the cures of what is open as one sentence; leaving out --strict is always one."""
    applicable = [*(cure for cure, is_open in cures if is_open), "leave out --strict"]
    sentence = f"{', '.join(applicable[:-1])} or {applicable[-1]}".removeprefix(" or ")
    return f"{sentence[0].upper()}{sentence[1:]}."


def check_explained(account: Shown) -> None:
    """Raise CheckError for a comparison whose replay is not XLA's number, or with a difference without a cause."""
    from costax.compare.base_comparison import BaseComparison

    if not isinstance(account, BaseComparison):
        return
    stages = (account.lowered, account.compiled)
    faults = [
        f"the replay of the {stage.stage} program is not XLA's number" for stage in stages if stage.matches_xla is False
    ]
    if account.unexplained:
        flops = sum(abs(delta.flops) for delta in account.unexplained)
        faults.append(f"{len(account.unexplained)} differences of {flops:,} FLOPs together are unexplained")
    if faults:
        raise CheckError(
            f"The account of `{account.jaxpr.name}` is not complete: {'; '.join(faults)}.",
            why="With --strict every difference from XLA must have a cause.",
            cure="Leave out --strict, and please report the program: this is a gap of costax.",
        )


def check_compiled(account: Any) -> None:
    """Raise CheckError for a comparison whose compiled program has loops of unknown length or open conditionals."""
    compiled = getattr(account, "compiled", None)
    if compiled is None or not (compiled.unknown_loops or compiled.conditionals):
        return
    from costax.report.waterfall import gaps

    raise CheckError(
        "What the compiled program executes is not known.",
        why="\n".join(gaps(compiled)),
        cure=_cure(
            ("give the loop a length that the program fixes", compiled.unknown_loops),
            (_WITHOUT_CONDITIONAL, compiled.conditionals),
        ),
    )


def check_table(by: str, sort: str | None) -> None:
    """Raise click's BadParameter for a table that the analysis of a program does not have."""
    if by in ("opcode", "computation"):
        raise click.BadParameter(
            f"{by!r} works only for HLO files; a program has primitives instead: --by primitive.", param_hint="--by"
        )
    if sort == "params" and by != "scope":
        raise click.BadParameter(
            "'params' works only with --by scope: parameters belong to scopes.", param_hint="--sort"
        )


def check_files(paths: Sequence[str]) -> None:
    """Raise RecordError for a path that cannot be written, before the work of the command starts."""
    if paths:
        from costax.report import check_file

        for path in paths:
            check_file(path)
