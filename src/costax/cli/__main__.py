"""The command line as `python -m costax.cli`."""

from costax.__main__ import run

run()
