"""The command line as `python -m costax.cli`."""

from costax.cli.app import main

main(prog_name="costax")
