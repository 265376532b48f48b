"""The command line as `python -m costax`, and as the script `costax`."""

import signal
import sys


def run() -> None:
    """Run the command line. An interrupt while it is imported ends it with a line, like a later one."""
    try:
        from costax.cli.app import main
        from costax.cli.terminal import INTERRUPTED
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: the command did not finish. Nothing was written.\n")
        sys.exit(130)
    try:
        # click would call the program `__main__.py`.
        main(prog_name="costax")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # A second Ctrl-C must not print a traceback while Python ends.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise


if __name__ == "__main__":
    run()
