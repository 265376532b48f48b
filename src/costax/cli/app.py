"""The group of all commands."""

from __future__ import annotations

import click

# No module of the command line imports jax before a command needs it, so that --help and `show` start fast.
from costax.cli import options, terminal
from costax.cli.commands import COMMANDS


@click.group(cls=terminal.Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="costax", message="%(package)s %(version)s")
@options.debug
def main() -> None:
    """Count the arithmetic, the bytes and the time of a JAX program, and explain XLA's own count.

    TARGET is package.module:name or path/to/file.py:name. The name refers to a function, to a flax, haiku or equinox
    module, or to a factory without arguments that returns (fn, args), (fn, args, kwargs) or costax.Target(...).
    analyze, compare, predict, memory, fits, diff and show also accept an HLO file as XLA_FLAGS=--xla_dump_to=DIR writes
    it, such as module.pb or module.txt, and the folder DIR itself.

    Exit codes: 0 success, 1 a check failed, 2 wrong usage; of fits also 3, too close to say.
    """


for _command in COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    main()
