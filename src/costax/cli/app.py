"""The group of all commands."""

from __future__ import annotations

import click

# Nothing here imports jax before a command needs it: help and saved records come at once.
from costax.cli import options, terminal
from costax.cli.commands import COMMANDS


@click.group(cls=terminal.Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="costax", message="%(package)s %(version)s")
@options.debug
def main() -> None:
    """Say where the arithmetic and the bytes of a JAX program go, to the last operation.

    TARGET is package.module:name or path/to/file.py:name. The name is a callable or a module, or a factory without
    arguments that returns (fn, args), (fn, args, kwargs) or costax.Target(...). analyze and compare also take a file
    of HLO, as XLA_FLAGS=--xla_dump_to=DIR writes it: module.pb, module.txt.

    Exit codes: 0 fine, 1 a check failed, 2 wrong usage.
    """


for _command in COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    main()
