"""Thresholds such as `flops > +1%`."""

from __future__ import annotations

import pytest

from costax.analysis import thresholds
from costax.analysis.diff import Change
from costax.errors import UnitError


@pytest.mark.parametrize(
    ("text", "before", "after", "holds"),
    [
        ("flops > +1%", 100, 101, False),
        ("flops > +1%", 100, 102, True),
        ("flops >= +1%", 100, 101, True),
        ("flops > +1%", 100, 90, False),
        ("flops > +1%", 0, 1, True),
        ("flops > +1%", 0, 0, False),
        ("flops < -10%", 100, 89, True),
        ("flops < -10%", 100, 90, False),
        ("params > +0", 100, 101, True),
        ("bytes_unfused > +1 KiB", 100, 1125, True),
        ("bytes_unfused > +1 KiB", 100, 1124, False),
        ("flops>1 kFLOP", 2000, 1001, True),
        ("macs <= 5", 9, 5, True),
        ("flops > +0.5 %", 1000, 1006, True),
    ],
)
def test_thresholds_compare_as_they_read(text, before, after, holds):
    assert thresholds.parse(text).holds(Change(before, after)) == holds


@pytest.mark.parametrize("text", ["flops", "flops > ", "flops > much", "speed > 3", "flops = 3", ""])
def test_a_text_that_is_not_a_threshold_is_an_error(text):
    with pytest.raises(UnitError):
        thresholds.parse(text)


@pytest.mark.parametrize(("text", "cure"), [("flop > +1%", "Did you mean 'flops'?"), ("zz > 1", "Write, for example")])
def test_a_field_that_does_not_exist_suggests_a_similar_one(text, cure):
    with pytest.raises(UnitError) as caught:
        thresholds.parse(text)
    assert caught.value.cure.startswith(cure)
