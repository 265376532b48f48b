"""Compressed modules: read as the file inside, within bounds."""

from __future__ import annotations

import gzip
import lzma

import pytest
from click.testing import CliRunner

from costax.cli.app import main
from costax.hlo import compressed
from costax.hlo.compressed import unpacked
from costax.hlo.errors import HloError
from costax.hlo.files import module_of
from hlo_samples import module_bytes, scanned

pytestmark = pytest.mark.once


@pytest.mark.parametrize(("suffix", "packed"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_a_compressed_module_is_the_module_inside(tmp_path, suffix, packed):
    hlo = module_bytes(scanned)
    path = tmp_path / f"module.hlo.pb.{suffix}"
    path.write_bytes(packed(hlo))
    assert module_of(path) == hlo
    # Two streams, one after the other, are one file.
    half = len(hlo) // 2
    path.write_bytes(packed(hlo[:half]) + packed(hlo[half:]))
    assert module_of(path) == hlo


@pytest.mark.parametrize(("suffix", "packed"), [("gz", gzip.compress), ("xz", lzma.compress)])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_one_clear_message(tmp_path, suffix, packed, kept):
    contents = packed(module_bytes(scanned))
    path = tmp_path / f"module.hlo.pb.{suffix}"
    path.write_bytes(contents[: max(6, int(kept * len(contents)))])
    done = CliRunner().invoke(main, ["analyze", str(path)])
    assert done.exit_code == 2
    assert done.stderr.startswith("HloError: ")
    assert "ends early" in done.stderr
    assert str(path) in done.stderr


def test_a_changed_byte_is_noticed():
    contents = bytearray(lzma.compress(module_bytes(scanned)))
    contents[len(contents) // 2] ^= 255
    with pytest.raises(HloError, match="does not unpack"):
        unpacked(bytes(contents), "module.xz")


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress])
def test_a_bomb_is_refused_before_it_fills_the_memory(monkeypatch, packed):
    monkeypatch.setattr(compressed, "_FREE", 2**22)
    small = packed(bytes(2**22))
    assert unpacked(small, "x") == bytes(2**22)
    with pytest.raises(HloError, match="expands to more than 4 MiB"):
        unpacked(packed(bytes(2**24)), "x")
