"""What holds for every test: no width of the terminal in which pytest runs, no lines of progress."""

import os

# readline, which pytest loads, sets both in the environment of C, from which every process that a test starts
# and every worker of pytest-xdist would have them.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)
    os.unsetenv(_name)

# On a loaded machine a stage takes seconds, and its line would stand in the output that a test compares.
os.environ["COSTAX_QUIET"] = "1"
