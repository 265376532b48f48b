"""`costax diff`: the costs of two programs, layer by layer."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from costax.cli import options, terminal
from costax.errors import InputError, SymbolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from costax.report.shown import Shown


@click.command(short_help="Show how costs change from BEFORE to AFTER, by layer.")
@click.argument("before")
@click.argument("after")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels of scopes; by default all.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="FIELD",
    help="Count to show: macs, params, flops ...; of modules executed_flops, hbm_bytes ... Repeat for more.",
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
@options.inputs
@options.symbol_values
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
    inputs: Sequence[str],
    trips: Sequence[str],
    markdown: bool,
    as_json: bool,
) -> None:
    """Show how costs change from BEFORE to AFTER, layer by layer. Each is a TARGET or a saved record (.json).

    Of two compiled programs it shows the work that runs, the bytes, what collectives send, the temporaries and the
    kernels, and what changed of the buffers alive at the peak. Each is an HLO file, a folder that XLA dumped into, a
    record of one, or a record of `compare`. Of two records of `compare` it shows the programs, and which passes of the
    compiler acted differently; --field or --fail-on with a field of modules asks for their compiled programs.

    \b
    costax diff examples/conv.py:standard examples/conv.py:depthwise_separable
    costax diff before.json examples/resnet.py:resnet18 --changed
    costax diff main.json branch.json --fail-on 'flops > +1%' --fail-on 'params > +0' --markdown
    costax diff before.hlo.pb after.hlo.pb --fail-on 'executed_flops > +1%' --fail-on 'temp_bytes > +0'
    costax diff main.json after.hlo.pb    # main.json: costax analyze before.hlo.pb --save main.json, or of compare
    """
    from costax.cli import module_diff

    _check_inputs((before, after), inputs)
    compiled_fields, of_compiled = _compiled(before, after, fields, fail_on)
    if of_compiled:
        _check_merge()
        module_diff.show(
            before,
            after,
            depth=depth,
            fields=fields,
            only_changed=only_changed,
            fail_on=fail_on,
            trips=options.parsed_trips(trips),
            form="json" if as_json else "markdown" if markdown else "",
        )
        return
    from costax.analysis import thresholds, views
    from costax.analysis.analysis import Analysis
    from costax.analysis.diff import diff as compare
    from costax.report import diff, passes, pull_request
    from costax.report.shown import analysis_of

    _check(fields)
    asked = [thresholds.parse(text) for text in fail_on if text not in compiled_fields]
    accounts = _accounts((before, after), inputs, options.parsed_trips(trips))
    compared = compare(*map(analysis_of, accounts))
    comparisons = [account for account in accounts if not isinstance(account, Analysis)]
    failures = thresholds.failures(compared, asked)
    if compiled_fields:
        failures += module_diff.failures_of((before, after), compiled_fields)
    if as_json:
        record = diff.to_record(compared, depth)
        if len(comparisons) == 2:
            differing = passes.difference(*comparisons)
            record["passes"] = {name: [then._asdict(), now._asdict()] for name, (then, now) in differing.items()}
        click.echo(json.dumps(record, indent=1))
    elif markdown:
        click.echo(pull_request.as_markdown(compared, failures), nl=False)
        if len(comparisons) == 2:
            click.echo("\n" + pull_request.compiled_as_markdown(*comparisons), nl=False)
    else:
        # The counts that decide come first: no terminal is too narrow for them.
        shown = tuple(dict.fromkeys((*(threshold.field for threshold in asked), *(fields or diff.DEFAULT))))
        table = compare(*views.merged_alike(compared.before, compared.after)) if merge else compared
        terminal.show(diff.render(table, fields=shown, depth=depth, only_changed=only_changed))
        if len(comparisons) == 2:
            terminal.show(passes.render_difference(*comparisons))
    module_diff.check(compared.after.name, failures)


def _compiled(before: str, after: str, names: Sequence[str], fail_on: Sequence[str]) -> tuple[list[str], bool]:
    """Return the thresholds for fields of compiled programs, and whether the whole difference is one of them.

    It is if either is a module, or if both are comparisons and every field is one of compiled programs. Raises
    InputError for such a field where a program is not compiled.
    """
    from costax.analysis.compiled_counts import COMPILED
    from costax.analysis.diff import fields as of_programs
    from costax.cli.module_diff import not_compiled, of_record
    from costax.cli.programs import is_module
    from costax.report.module_record import SavedModule

    texts = (before, after)
    records = {text: None if is_module(text) else of_record(text) for text in texts}
    if any(is_module(text) or isinstance(records[text], SavedModule) for text in texts):
        return [], True
    own = COMPILED.keys() - of_programs()
    chosen = [name for name in names if name in own]
    asked = [text for text in fail_on if text.split()[:1] and re.split(r"\W", text.strip())[0] in own]
    if not chosen and not asked:
        return [], False
    for text in texts:
        if records[text] is None:
            raise not_compiled(text, (*chosen, *asked)[0])
    if len(asked) == len(fail_on) and all(name in COMPILED for name in names):
        return [], True
    if chosen:
        raise click.BadParameter(
            f"{', '.join(chosen)}: a table has the fields of programs or those of compiled programs, "
            f"{', '.join(COMPILED)}.",
            param_hint="--field",
        )
    return asked, False


def _check_inputs(texts: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise InputError for --input where neither program is traced."""
    from costax.cli.programs import is_module

    if inputs and all(text.endswith(".json") or is_module(text) for text in texts):
        raise InputError(
            "--input does not apply to records and HLO files.",
            why="They already have the shapes of their arguments.",
            cure="Remove --input, or name a target: path/to/file.py:name.",
        )


def _check_merge() -> None:
    """Raise InputError for --merge and --no-merge, which do nothing for compiled programs."""
    context = click.get_current_context()
    if context.get_parameter_source("merge") is ParameterSource.COMMANDLINE:
        raise InputError(
            "--merge and --no-merge do not apply to compiled programs.",
            why="Each layer of a module has a line of its own: XLA fuses equal layers in different ways.",
            cure="Leave them out; --depth N sums the layers below a level.",
        )


def _check(names: Sequence[str]) -> None:
    from costax.analysis.diff import fields

    for name in names:
        if name not in fields():
            raise click.BadParameter(f"{name!r} must be one of {', '.join(fields())}.", param_hint="--field")


def _accounts(texts: Sequence[str], inputs: Sequence[str], values: Mapping[str, int]) -> list[Shown]:
    """Return the analyses of two targets or records, or the comparisons of records, with values for their symbols.

    inputs: the specs of the arguments of each target. Raises SymbolError for a value that fits no symbol of either.
    """
    from costax.analysis.analysis import Analysis
    from costax.program.branches import nearest
    from costax.report.shown import analysis_of

    accounts = [_account(text, inputs) for text in texts]
    known = {name for account in accounts for name in analysis_of(account).symbols}
    unknown = sorted(set(values) - known)
    if unknown:
        raise SymbolError(
            f"There is no symbol {', '.join(unknown)} in either program.",
            where=f"symbols: {', '.join(sorted(known)) or 'none'}",
            why="The value would have no effect.",
            cure=nearest(unknown[0], known) or "Leave it out, or name one of these symbols.",
        )
    if not values:
        return accounts

    def at(account: Shown) -> Shown:
        symbols = analysis_of(account).symbols
        fitting = {name: count for name, count in values.items() if name in symbols}
        return account.evaluate(fitting) if isinstance(account, Analysis) and symbols else account

    return [at(account) for account in accounts]


def _account(text: str, inputs: Sequence[str]) -> Shown:
    """Return the analysis of a target, or the analysis or comparison of a record."""
    if text.endswith(".json"):
        from costax.report import load_any

        return load_any(text)
    from costax.cli.loading import analysed

    return analysed(text, inputs, {}, "raise")
