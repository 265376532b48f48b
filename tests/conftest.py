"""What holds for every test: no width of the terminal in which pytest runs, no lines of progress, whole files."""

import os
from collections import Counter

import pytest
from hypothesis import settings

# readline, which pytest loads, sets both in the environment of C, from which every process that a test starts
# and every worker of pytest-xdist would have them.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)
    os.unsetenv(_name)

# On a loaded machine a stage takes seconds, and its line would stand in the output that a test compares.
os.environ["COSTAX_QUIET"] = "1"


# Nor is an example wrong that took long there.
settings.register_profile("costax", deadline=None)
settings.load_profile("costax")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give pytest-xdist whole files, so that one process alone makes the fixtures of a file; a group stays a group.

    With a test at a time, its controller takes a third as long as trivial tests themselves.
    """
    if config.option.dist != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class FilesAndGroups(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope = super()._split_scope(nodeid)
            return nodeid.partition("::")[0] if scope == nodeid else scope

    config.option.loadscopereorder = False  # `pytest_collection_modifyitems` has ordered them
    return FilesAndGroups(config, log)


def pytest_collection_modifyitems(items):
    """Put files that take long first: at the end, a process that has no more work waits for the others."""
    tests = Counter(item.path for item in items)
    slow = {item.path for item in items for name in ("slow", "browser") if item.get_closest_marker(name)}
    items.sort(key=lambda item: 0 if item.path in slow else 1 if tests[item.path] > 50 else 2)
