"""The command line."""

from costax.cli.app import main

__all__ = ["main"]
