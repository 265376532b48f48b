"""Pages that are generated from the code: commands, results, rules, other tools, versions."""

from __future__ import annotations

import functools
import inspect
import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import costax
import costax.errors
from costax.analysis.explain import family, kind
from costax.analysis.other_tools.conventions import CONVENTIONS
from costax.analysis.other_tools.tools import TOOLS
from costax.cli.app import main as command_line
from costax.report.formats import escaped, grid
from costax.rules.examples import cases

ROOT = Path(__file__).resolve().parents[1]
# The largest number of primitives in one heading.
MANY = 8


def write_all(folder: Path) -> None:
    """Write every generated page that has changed; Sphinx does not read an unchanged page again."""
    folder.mkdir(exist_ok=True)
    for page in (contents, commands, results, rules, tools, compatibility):
        name = page.__name__
        text = "\n".join(page()) + "\n"
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def contents() -> Iterator[str]:
    """Yield the part of the table of contents that lists the pages of this folder; `index.md` lists the others."""
    index = (Path(__file__).parent / "index.md").read_text(encoding="utf-8")
    elsewhere = {"index", *re.findall(r"^[a-z]+$", index, re.MULTILINE)}
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.md") if path.stem not in elsewhere)
    yield "```{toctree}"
    yield ":maxdepth: 1"
    yield ":hidden:"
    yield ":caption: Explanations"
    yield ""
    # Absolute paths, since another page includes this one.
    yield from (f"/{name}" for name in names)
    yield "```"


def commands() -> Iterator[str]:
    """Yield the page of the command line: of each command its usage, its help, its examples and its options."""
    yield "# The command line\n"
    about = paragraphs(inspect.cleandoc(command_line.help or ""))
    yield from (f"{plain(options_as_code(paragraph))}\n" for paragraph in about)
    yield "`costax COMMAND --help` prints the same. [Recipes](../guides/recipes.md) say which command answers what.\n"
    for name, command in command_line.commands.items():
        with click.Context(command_line, info_name="costax") as parent, click.Context(command, parent, name) as context:
            yield f"## {name}\n"
            yield f"    {' '.join(command.get_usage(context).removeprefix('Usage: ').split())}\n"
            for block in inspect.cleandoc(command.help or "").split("\n\n"):
                # click does not wrap the lines after this character; they are examples.
                if block.startswith("\b\n"):
                    yield "".join(f"    {line}\n" for line in block.splitlines()[1:])
                else:
                    yield from (f"{plain(options_as_code(paragraph))}\n" for paragraph in paragraphs(block))
            for option in command.params:
                record = option.get_help_record(context)
                if record and record[1] and record[1] != "Show tracebacks.":
                    yield f"`{record[0]}`\n: {plain(options_as_code(record[1]))}\n"


def options_as_code(text: str) -> str:
    """Return help text with its options as code.

    >>> options_as_code("as XLA_FLAGS=--xla_dump_to=DIR writes it, or --save FILE")
    'as `XLA_FLAGS=--xla_dump_to=DIR` writes it, or `--save` FILE'
    """
    return re.sub(r"(?<![\w`-])((?:[A-Z_]+=)?--[a-z][\w-]*(?:=\w+)?)", r"`\1`", text)


def results() -> Iterator[str]:
    """Yield the page of the classes that public functions, methods and attributes return and that are not public."""
    yield """# What results are made of

Public functions return values of these classes, or hold them in their attributes. None of them needs to be imported.

```{eval-rst}"""
    yield from (f".. autoclass:: {cls.__module__}.{cls.__qualname__}" for cls in returned())
    yield "```"


def returned() -> list[type]:
    """Return the classes of costax in the annotations of public names that have no place on the pages of the API."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    described = {*vars(costax.errors), *re.findall(r"^\.\. auto\w+:: (?:[\w.]*\.)?(\w+)$", pages, re.MULTILINE)}
    found: dict[str, type] = {}
    for name in costax.__all__:
        for annotation, home in annotations(getattr(costax, name)):
            for word in re.findall(r"\b[A-Z]\w+", annotation):
                value = home.get(word)
                if inspect.isclass(value) and value.__module__.startswith("costax.") and word not in described:
                    found[word] = value
    return [found[word] for word in sorted(found)]


def annotations(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the annotations of what a function returns, or of the public members of a class, with their modules."""
    if not inspect.isclass(value):
        yield from annotation_of(value)
        return
    hidden = getattr(value, "internals", frozenset[str]())
    for base in value.__mro__:
        for name, member in vars(base).items():
            if not name.startswith("_") and name not in hidden:
                yield from annotation_of(member)
        for name, annotation in vars(base).get("__annotations__", {}).items():
            if not name.startswith("_") and name not in hidden:
                yield str(annotation), names_of(base.__module__)


def annotation_of(member: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the annotation of what a function, a method or a property returns, with its module."""
    if isinstance(member, property | functools.cached_property):
        member = member.fget if isinstance(member, property) else member.func
    member = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else member
    if inspect.isfunction(member) and "return" in member.__annotations__:
        yield str(member.__annotations__["return"]), names_of(member.__module__)


def names_of(module: str) -> dict[str, Any]:
    """Return the names of a module, with those that it imports for the checker of types alone."""
    found = dict(vars(import_module(module)))
    source = inspect.getsource(import_module(module))
    for home, names in re.findall(r"^    from (costax[\w.]*) import ([\w, ]+)$", source, re.MULTILINE):
        for name, _, alias in (imported.partition(" as ") for imported in names.split(", ")):
            found[alias or name] = vars(import_module(home)).get(name)
    return found


def rules() -> Iterator[str]:
    """Yield the page of all rules: by family, the text of each rule and the primitives that it covers."""
    every = costax.rules()
    by_law: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for rule in every.values():
        by_law[family(rule), rule.free or rule.law].append(rule)
    examples = {case.primitive for case in cases()}
    yield "# All rules\n"
    yield f"{len(every)} primitives have a rule. `costax explain NAME` runs the examples of one, beside XLA's count."
    last = ""
    for (home, law), members in sorted(by_law.items(), key=lambda item: (item[0][0], item[1][0].name)):
        if home != last:
            yield f"\n## {home}\n"
            last = home
        first, _, rest = law.partition("\n")
        names = [f"`{rule.name}`" for rule in members]
        many = len(names) > MANY
        heading = [*names[: MANY - 2], f"{len(names) - MANY + 2} more"] if many else names
        yield f"### {', '.join(heading)}\n"
        yield f"*{kind(members[0])}{', free' if members[0].free else ''}.* {plain(first)}\n"
        if many:
            yield f"For {', '.join(names)}.\n"
        for paragraph in paragraphs(rest):
            yield f"{plain(paragraph)}\n"
        tried = sum(rule.name in examples for rule in members)
        if tried:
            yield f"Worked examples: {tried} of {len(members)}.\n"


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring; the relation to XLA is one of its own."""
    for block in re.split(r"\n\s*\n|\n(?=\s*XLA:)", text.strip("\n")):
        joined = " ".join(line.strip() for line in block.splitlines())
        if joined:
            yield joined


def plain(text: str) -> str:
    """Return prose as Markdown that shows it as it is, but for its code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else escaped(part) for part in parts)


def tools() -> Iterator[str]:
    """Yield the table of what other tools print for torchvision's models, with the numbers that costax gives."""
    from mobilenet import mobilenet_v2
    from resnet import resnet18, resnet50
    from vit import vit_b_16

    recorded = json.loads((ROOT / "benchmarks" / "peers.json").read_text())
    factories = (resnet18, resnet50, mobilenet_v2, vit_b_16)
    models = {factory.__name__: costax.analyze(costax.Target(*factory()))() for factory in factories}
    versions = ", ".join(f"{name} {version}" for name, version in recorded["versions"].items())
    yield f"""# What other tools print

The tools printed these numbers for torchvision's models; `nox -s peers` runs them again. Versions:
{versions}.

Where `analysis.as_(tool)` gives another number for the same network in JAX, that number stands in brackets.
"""
    rows = [("costax, MACs", *(f"{analysis.total.macs:,}" for analysis in models.values()))]
    for tool, read in PRINTED.items():
        cells: list[str] = []
        for name, analysis in models.items():
            printed, ours = read(recorded["figures"][name]), analysis.as_(tool)
            cells.append(f"{int(printed):,}" + ("" if int(printed) == ours else f" ({ours:,})"))
        rows.append((f"`{tool}`, {TOOLS[tool].unit}", *cells))
    yield from grid(("", *models), rows, numeric_from=1, raw=True)
    yield """
torchvision's MobileNet calls a pooling function, which hooks on modules do not see. Its ViT uses torch's fast path for
attention without gradients, which `FlopCounterMode` does not see.
"""
    yield "## What each counts\n"
    for name, tool in TOOLS.items():
        yield f"### {name}\n"
        yield f"{tool.version}; {tool.unit}, a MAC is {tool.mac}.\n"
        for part, weight in tool.weights.items():
            yield f"* {part}: {escaped(weight.why)}{' **(a known defect)**' if weight.defect else ''}."
        yield "" if tool.weights else "Contractions alone.\n"
    others = [name for name in CONVENTIONS if name not in TOOLS]
    listed = ", ".join(f"`{name}`" for name in others)
    yield f"Further conventions are {listed}; see [other conventions](../conventions.md)."


PRINTED: dict[str, Callable[..., float]] = {
    "torch": lambda ran: ran["torch_counter"],
    "fvcore": lambda ran: ran["fvcore"]["total"],
    "thop": lambda ran: ran["thop"],
    "ptflops": lambda ran: ran["ptflops"]["pytorch"],
    "ptflops:aten": lambda ran: ran["ptflops"]["aten"],
    "torchinfo": lambda ran: ran["torchinfo"],
    "deepspeed": lambda ran: ran["deepspeed"][0],
    "deepspeed:macs": lambda ran: ran["deepspeed"][1],
    "calflops": lambda ran: ran["calflops"][0],
    "calflops:macs": lambda ran: ran["calflops"][1],
}


def compatibility() -> Iterator[str]:
    """Yield the table of versions: the requirements, and the versions that the tests use."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    nox = (ROOT / "noxfile.py").read_text()
    floor = re.search(r'FLOOR = "([^"]+)"', nox)[1]
    newest = re.search(r'NEWEST_PYTHON = "([^"]+)"', nox)[1]
    yield "# Compatibility\n"
    yield f"Python {project['requires-python'].removeprefix('>=')} and newer, jax {floor} and newer; no upper bounds.\n"
    rows = [
        ("jax " + floor, "the oldest Python with wheels", "the tests of what reads jax and XLA"),
        ("newest jax of Python " + project["requires-python"].removeprefix(">="), "", "every test"),
        ("newest jax of all", "Python " + newest, "the tests of what reads jax and XLA"),
    ]
    yield from grid(("jax", "Python", "what CI runs"), rows, numeric_from=3)
    yield "\n## Requirements\n"
    source = (ROOT / "pyproject.toml").read_text()
    block = source.partition("dependencies = [")[2].partition("]\n")[0]
    required = re.findall(r'"([^"]+)",\s*# (.+)', block)
    yield from grid(("package", "why this bound"), required, numeric_from=2)
    yield "\n## Extras\n"
    extras = [(f"costax[{name}]", ", ".join(packages)) for name, packages in project["optional-dependencies"].items()]
    yield from grid(("extra", "brings"), extras, numeric_from=2)


if __name__ == "__main__":
    write_all(Path(__file__).parent / "generated")
