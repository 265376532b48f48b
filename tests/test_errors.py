"""The errors of costax: their bases, and the places that they name."""

from __future__ import annotations

import os

import pytest

import costax
from costax.errors import CostaxError


def test_every_error_has_a_natural_base():
    kinds = CostaxError.__subclasses__()
    assert len(kinds) >= 8
    for kind in kinds:
        assert issubclass(kind, (TypeError, ValueError, LookupError, AssertionError, MemoryError, ImportError)), kind


def test_a_message_never_blames_a_line_of_costax():
    with pytest.raises(CostaxError) as caught:
        costax.analyze(lambda x: x)(costax.spec("f32[3]"), costax.spec("f32[3]"))
    assert os.path.dirname(costax.__file__) not in str(caught.value)
