"""The command line as `python -m costax`."""

from costax.cli.app import main

# click would call the program `__main__.py`.
main(prog_name="costax")
