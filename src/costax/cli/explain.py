"""`costax explain`: the rule of a primitive."""

from __future__ import annotations

import click

from costax.cli import options, terminal


@click.command(short_help="Explain what a PRIMITIVE costs, or a term that costax prints.")
@click.argument("primitive", metavar="PRIMITIVE|TERM")
@options.debug
def explain(primitive: str) -> None:
    """Explain what a PRIMITIVE costs: its rule, the formula, and worked examples with XLA's count; or a printed TERM.

    A TERM is a word or a heading that costax prints, a pass of XLA, or the convention of another tool.

    \b
    costax explain dot_general
    costax explain jnp.einsum
    costax explain 'framework peak'
    costax explain algsimp
    """
    from costax.analysis import glossary

    term = glossary.term(primitive)
    if term is not None:
        terminal.show(f"{term}: {glossary.TERMS[term]}")
        return
    from costax.analysis.explain import explain as explanation_of
    from costax.analysis.other_tools.conventions import CONVENTIONS, described
    from costax.compare.passes import PLAIN

    plain = primitive.strip().lower()
    if plain in PLAIN:
        terminal.show(f"{plain}: a pass of XLA's compiler: {PLAIN[plain]}.")
        return
    if plain in CONVENTIONS:
        terminal.show(f"{plain}: {described(plain)}")
        return
    other = glossary.primitive(primitive)
    if other is not None:
        terminal.show(f"`{primitive}` does its work in the primitive {other}.")
        click.echo()

    terminal.show(explanation_of(primitive))
