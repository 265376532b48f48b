"""The errors of costax: their bases, and the places that they name."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

import costax
from costax import errors
from costax.errors import CostaxError, ExtraError, install_command


def test_every_error_has_a_natural_base():
    kinds = CostaxError.__subclasses__()
    assert len(kinds) >= 8
    for kind in kinds:
        assert issubclass(kind, (TypeError, ValueError, LookupError, AssertionError, MemoryError, ImportError)), kind


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (None, "pip install 'costax[html]'"),
        ("{}", "pip install 'costax[html]'"),
        ("no JSON", "pip install 'costax[html]'"),
        ('{"url": "file:///home/me/costax", "dir_info": {}}', "pip install '/home/me/costax[html]'"),
        (
            '{"url": "file:///home/me/my%20costax", "dir_info": {"editable": true}}',
            "pip install -e '/home/me/my costax[html]'",
        ),
        (
            '{"url": "https://example.org/costax.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
            "pip install 'costax[html] @ git+https://example.org/costax.git'",
        ),
        (
            '{"url": "https://example.org/costax.git", "vcs_info": {"vcs": "git", "requested_revision": "v1"}}',
            "pip install 'costax[html] @ git+https://example.org/costax.git@v1'",
        ),
        (
            '{"url": "https://example.org/costax.whl", "archive_info": {}}',
            "pip install 'costax[html] @ https://example.org/costax.whl'",
        ),
    ],
)
def test_an_extra_is_installed_from_where_costax_came_from(monkeypatch, origin, line):
    """The records are those of pip, as PEP 610 defines them; without one the package is from an index."""
    monkeypatch.setattr(errors.metadata, "distribution", lambda name: SimpleNamespace(read_text=lambda file: origin))
    assert install_command("html") == line
    assert str(ExtraError("pandas", "A data frame", "html")).endswith(line)


def test_this_costax_is_not_from_an_index():
    """The negative control: whoever runs the tests has a clone, so a line with the bare name would be false."""
    assert install_command("html") != "pip install 'costax[html]'"


def test_a_message_never_blames_a_line_of_costax():
    with pytest.raises(CostaxError) as caught:
        costax.analyze(lambda x: x)(costax.spec("f32[3]"), costax.spec("f32[3]"))
    assert os.path.dirname(costax.__file__) not in str(caught.value)
