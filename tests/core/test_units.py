"""Numbers as text and back."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costax.core import units
from costax.errors import UnitError

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

counts = st.integers(0, 60).flatmap(lambda digits: st.integers(-(10**digits), 10**digits))


@pytest.mark.parametrize(
    ("text", "unit", "count"),
    [
        ("3.6 GFLOP", "FLOP", 3_600_000_000),
        ("4 GFLOPs", "FLOP", 4 * 10**9),
        ("1.81GMAC", "MAC", 1_810_000_000),
        ("1,814,073,344", "MAC", 1_814_073_344),
        ("1_000", "OP", 1000),
        ("2 GiB", "B", 2 * 1024**3),
        ("2 GB", "B", 2 * 10**9),
        ("7 K", "FLOP", 7000),
        ("1e12", "FLOP", 10**12),
        ("-5 k", "MAC", -5000),
        ("1.1 KiB", "B", 1126),
    ],
)
def test_text_names_a_count(text, unit, count):
    assert units.parse(text, unit) == count


@pytest.mark.parametrize(
    "text", ["", "many", "4 GFLOP/s", "4 GMAC", "4 gFLOP", "4..5", "1 2", "nan", "inf", "1e9999", "0x10", "٣"]
)
def test_text_that_names_no_count_is_an_error(text):
    with pytest.raises(UnitError, match="is not a number of FLOP"):
        units.parse(text, "FLOP")


@given(counts, st.sampled_from(["FLOP", "MAC", "OP", "B"]))
def test_short_text_reads_back_within_three_digits(count, unit):
    assert abs(units.parse(units.short(count, unit), unit) - count) <= Fraction(abs(count), 199)


@given(counts)
def test_short_bytes_read_back_within_three_digits(count):
    # 1023 B is 0.999 KiB, which names 1022.976 B.
    assert abs(units.parse(units.short_bytes(count), "B") - count) <= Fraction(abs(count), 199) + 1


@given(counts)
def test_exact_text_reads_back_whole(count):
    assert units.parse(units.exact(count, "B"), "B") == count


@given(st.integers(0, 30), st.integers(-600, 600))
def test_a_number_just_below_a_prefix_takes_the_next_one(power, near):
    for text in (units.short(10**power * 1000 + near), units.short_bytes(1024**power + near)):
        number = re.match(r"-?(\d+)(?:\.(\d+))?", text)
        assert number
        assert len(number[1]) <= 3
        assert len((number[1] + (number[2] or "")).lstrip("0")) <= 3


@pytest.mark.parametrize(
    ("count", "text"),
    [(999_499, "999 k"), (999_500, "1 M"), (999_999_999, "1 G"), (1005, "1 k"), (1015, "1.02 k"), (10**33, "1e33")],
)
def test_rounding_moves_to_the_next_prefix(count, text):
    assert units.short(count) == text


def test_integers_of_any_size_become_text():
    assert units.short(10**5000, "FLOP") == "1e5000 FLOP"
    assert units.short_bytes(2**40000) == f"{units.short(2**40000)} B"


@given(st.lists(st.integers(0, 10**30), min_size=1, max_size=8))
def test_shares_add_up_to_a_hundred_within_rounding(parts):
    whole = sum(parts)
    shares = [units.share(part, whole) for part in parts]
    if whole:
        assert abs(sum(map(Fraction, shares)) - 100) <= Fraction(len(parts), 20)
    else:
        assert set(shares) == {"-"}
