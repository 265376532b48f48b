"""What holds for every test: the width of the output is not that of the terminal in which pytest runs."""

import os

# readline, which pytest loads, sets both in the environment of C, from which every process that a test starts
# and every worker of pytest-xdist would have them.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)
    os.unsetenv(_name)
