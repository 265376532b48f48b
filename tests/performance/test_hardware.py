"""Devices: every number has its source, no number is a sparse one, and users add their own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import costax
from costax.performance import hardware
from costax.performance.hardware import Device
from costax.performance.hardware.library import DeviceFileWarning

# The result is the same for every version of jax.
pytestmark = pytest.mark.once

FOLDER = Path(hardware.__file__).parent / "devices"
DEVICES = {path.stem: hardware.read(path) for path in sorted(FOLDER.glob("*.toml"))}
every_device = pytest.mark.parametrize("device", DEVICES.values(), ids=lambda d: d.id)


@pytest.fixture(autouse=True)
def no_devices_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("COSTAX_DEVICES", str(tmp_path / "devices"))
    return tmp_path / "devices"


def test_every_file_is_a_device_and_every_name_means_one():
    assert costax.devices().keys() == DEVICES.keys()
    names = [name for device in DEVICES.values() for name in (device.id, *device.aliases)]
    assert len(names) == len(set(names))
    for name in names:
        found = costax.device(name.upper())
        assert name == found.id or name in found.aliases


@every_device
def test_every_number_has_a_source_and_a_date(device: Device):
    data = tomllib.loads((FOLDER / f"{device.id}.toml").read_text())
    for name, source in data["sources"].items():
        assert source["title"], name
        assert source["date"].isoformat() >= "2025"
    used = {figure.source for figure in device.figures().values()}
    assert used <= {source["title"] for source in data["sources"].values()}
    # Every number of the file becomes a figure, but for those that only tell a reader where others come from.
    told = ("compiler", "peak_per_core_per_cycle")
    numbers = sum("value" in entry for name, table in data.items() if name not in told for entry in tables(table))
    assert numbers == len(device.figures())


def tables(table):
    """A table of the file and the tables in it."""
    return [t for t in (table, *table.values()) if isinstance(t, dict)] if isinstance(table, dict) else []


# What int8, fp8 and tf32 are to bfloat16 on dense hardware, by architecture. A data sheet's sparse figure is twice it.
DENSE = {
    "a100": {"int8": 2, "tf32": 1 / 2},
    "h100": {"int8": 2, "fp8": 2, "tf32": 1 / 2},
    "h200": {"int8": 2, "fp8": 2, "tf32": 1 / 2},
    "b200": {"int8": 2, "fp8": 2, "tf32": 1 / 2, "fp4": 4},
    "b300": {"int8": 1 / 15, "fp8": 2, "tf32": 1 / 2, "fp4": 35 / 6},
    "gb300": {"int8": 1 / 15, "fp8": 2, "tf32": 1 / 2, "fp4": 6},
    "h20": {"int8": 2, "fp8": 2, "tf32": 1 / 2},
    "a30": {"int8": 2, "tf32": 1 / 2},
    "a10g": {"int8": 2, "tf32": 1 / 2},
    "rtx3090": {"int8": 4, "tf32": 1 / 2},
    "rtx5090": {"int8": 4, "fp8": 2, "tf32": 1 / 2, "fp4": 8},
    "rtx-pro-6000": {"int8": 2, "fp8": 2, "tf32": 1 / 2, "fp4": 4},
    "gb200": {"int8": 2, "fp8": 2, "tf32": 1 / 2, "fp4": 4},
    "l4": {"int8": 2, "fp8": 2, "tf32": 1 / 2},
    "l40s": {"int8": 2, "fp8": 2, "tf32": 1 / 2},
    "rtx4090": {"int8": 4, "fp8": 2, "tf32": 1 / 2},
    "mi250x": {"int8": 1},
    "mi300x": {"int8": 2, "fp8": 2, "tf32": 1 / 2},
    "mi325x": {"int8": 2, "fp8": 2, "tf32": 1 / 2},
    "tpu-v4": {"int8": 1},
    "mi350x": {"int8": 2, "fp8": 2, "fp4": 4},
    "mi355x": {"int8": 2, "fp8": 2, "fp4": 4},
    "trainium2": {"fp8": 2, "tf32": 1},
    "tpu-v5e": {"int8": 2, "int4": 4},
    "tpu-v5p": {"int8": 2, "fp8": 1, "int4": 4},
    "tpu-v6e": {"int8": 2, "fp8": 1, "int4": 4},
    "tpu-v7x": {"fp8": 2},
    "jetson": {"int8": 2},
}
# What a multiprocessor does in a clock, in FLOPs of dense bfloat16. Source: NVIDIA's architecture white papers.
A_CLOCK = {
    **{"a100": 2048, "a30": 2048, "h100-sxm": 4096, "h100-pcie": 4096, "h200": 4096, "b200": 8192, "gb200": 8192},
    **{"gb300": 8192, "l4": 1024, "l40s": 1024, "rtx4090": 512, "rtx3090": 512, "rtx5090": 512, "a10g": 512},
    "rtx-pro-6000": 1024,
}


def family(device: Device, table) -> str | None:
    return max((name for name in table if device.id.startswith(name)), key=len, default=None)


def of_a_family(table):
    """Parametrize with the devices whose family the table has."""
    known = [device for device in DEVICES.values() if family(device, table)]
    return pytest.mark.parametrize("device", known, ids=lambda d: d.id)


def test_the_tables_of_families_have_no_family_without_a_device():
    for table in (DENSE, A_CLOCK):
        assert {family(device, table) for device in DEVICES.values()} - {None} == set(table)


@of_a_family(DENSE)
def test_narrow_formats_are_as_fast_as_dense_hardware_makes_them(device: Device):
    for name, ratio in DENSE[family(device, DENSE)].items():
        assert device.peaks[name].value / device.peaks["bf16"].value == pytest.approx(ratio, rel=0.03), name


@of_a_family(A_CLOCK)
def test_no_peak_is_a_sparse_one(device: Device):
    dense = A_CLOCK[family(device, A_CLOCK)] * device.on_chip["sms"].value * device.clock.value
    # Peaks are given at the boost clock, which the sources round; a sparse figure would be twice as large.
    assert 0.7 < device.peaks["bf16"].value / dense < 1.4


@every_device
def test_figures_are_of_the_size_that_such_figures_have(device: Device):
    if device.bandwidth is not None:
        assert 5e10 <= device.bandwidth.value <= 2e13
    if device.capacity is not None:
        assert 1e9 <= device.capacity.value <= 1e12
    if "tdp" in device.power:
        assert 5 <= device.power["tdp"].value <= 2000
    for figure in device.peaks.values():
        assert 1e11 <= figure.value <= 2e16


def test_unverified_figures_are_marked():
    assert costax.device("a10g").unverified == ["peak.fp64", "peak.int8", "clock", "power.tdp"]
    assert all(figure.unverified for figure in costax.device("h100-nvl").peaks.values())
    # Measured on an H200.
    assert costax.device("h100-sxm").unverified == ["efficiency.fp32_matmul"]
    assert not costax.device("h200-sxm").unverified


def test_devices_that_can_be_compiled_for_name_the_target():
    from costax.compare.ahead_of_time import machine

    named = {device.id: machine(device.compile_for) for device in DEVICES.values() if device.compile_for}
    assert {"h100-sxm", "tpu-v5e"} <= named.keys()
    assert all(named.values())


def test_aliases_find_a_device():
    assert costax.device("h100").id == "h100-sxm"
    assert costax.device("V5E").id == "tpu-v5e"


def test_an_unknown_device_suggests_its_neighbours():
    with pytest.raises(LookupError, match="Did you mean"):
        costax.device("h10")


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("NVIDIA H100", ["h100-sxm", "h100-nvl", "h100-pcie"]),
        ("nvidia_h100_pcie", ["h100-pcie"]),
        ("A100 80GB", ["a100-sxm-80"]),
        ("Tesla V100", ["v100-sxm2"]),
        ("v5e-8", ["tpu-v5e"]),
    ],
)
def test_a_device_is_suggested_by_the_words_of_its_name(name, suggested):
    with pytest.raises(LookupError) as caught:
        costax.device(name)
    assert caught.value.cure == f"Did you mean {' or '.join(suggested)}?"


@pytest.mark.parametrize("name", ["xyz!", "", "-"])
def test_a_name_without_known_words_suggests_nothing(name):
    with pytest.raises(LookupError, match="Add a device file to"):
        costax.device(name)


def test_a_device_is_found_by_the_name_that_jax_gives_it():
    # Names of libtpu 0.0.42 and of XLA's descriptions of GPUs.
    for kind, name in (("TPU v5 lite", "tpu-v5e"), ("TPU7x", "tpu-v7x"), ("NVIDIA H100 80GB HBM3", "h100-sxm")):
        assert costax.device(kind).id == name
    kinds = [kind.lower() for device in DEVICES.values() for kind in device.device_kinds]
    assert len(kinds) == len(set(kinds))


# GiB that a driver or XLA reports, from their logs; a data sheet's "40 GB" is neither GB nor GiB.
REPORTED = {
    "a100-sxm-40": 39.42,
    "a100-sxm-80": 79.25,
    "h100-sxm": 79.11,
    "h200-sxm": 140.4,
    "b200": 178.36,
    "t4": 14.755,
}


@pytest.mark.parametrize(("name", "gib"), REPORTED.items())
def test_the_memory_is_what_a_driver_reports(name, gib):
    assert costax.device(name).capacity.value / 2**30 == pytest.approx(gib, rel=4e-4)


# Of the list of wrong figures: what the data sheets say.
SHEETS = [
    ("tpu-v4", lambda d: d.bandwidth, 1200e9),
    # Jouppi et al., ISCA 2023: six links of 50 GB/s.
    ("tpu-v4", lambda d: d.link.send, 6 * 50e9),
    # 148 multiprocessors with 128 units that start a multiply-add at 1.965 GHz.
    ("b200", lambda d: d.peaks["fp32"], 148 * 128 * 2 * 1.965e9),
    ("gb200", lambda d: d.on_chip["l2"], 135_528_448),
    ("mi250x", lambda d: d.power["tdp"], 500),
    ("h20", lambda d: d.peaks["bf16"], 148e12),
    ("t4", lambda d: d.peaks["fp16"], 65e12),
    ("a30", lambda d: d.peaks["bf16"], 165e12),
    ("rtx3090", lambda d: d.peaks["bf16"], 71.2e12),
    ("rtx5090", lambda d: d.bandwidth, 1792e9),
    ("mi355x", lambda d: d.peaks["bf16"], 2400e6 * 512 * 2 * 1024),
    ("mi350x", lambda d: d.peaks["fp32"], 144.2e12),
    ("trainium2", lambda d: d.peaks["bf16"], 667e12),
    ("gb300", lambda d: d.peaks["fp4"], 15e15),
    # Measured on both CPUs of a superchip: STREAM Triad and HPL of NVIDIA's benchmarking guide.
    ("grace", lambda d: d.efficiency["bandwidth"], 806_812.4e6 / 2 / 512e9),
    ("grace", lambda d: d.efficiency["fp64_matmul"], 5.2093e12 / 2 / (72 * 16 * 3.1e9)),
    # Measured: arithmetic in registers, arXiv 2409.08108.
    ("epyc-9684x", lambda d: d.efficiency["fp64_matmul"], 5.1 / 8.52),
]


@pytest.mark.parametrize(("name", "figure", "expected"), SHEETS, ids=lambda x: x if isinstance(x, str) else "")
def test_figures_are_those_of_the_data_sheet(name, figure, expected):
    assert figure(costax.device(name)).value == pytest.approx(expected, rel=2e-3)


def test_no_rate_is_claimed_from_a_source_that_does_not_have_it():
    # jax's tpu_info says of fp8 on v5e that it is not available; Google's table has it for v5p, v6e and TPU7x.
    assert "fp8" not in costax.device("v5e").peaks
    assert all("Google" in costax.device(name).peaks["fp8"].source for name in ("v5p", "v6e", "v7x"))


@every_device
def test_a_network_says_how_many_chips_stand_on_one_side_of_it(device: Device):
    if device.network is None:
        return
    assert device.link is not None
    assert device.network.send.value < device.link.send.value
    assert device.network.hosts_of in (4, 8, 16, 72, 256, 8960, 9216)


@pytest.mark.parametrize("name", ["tpu-v2", "tpu-v3", "tpu-v7x", "mi250x"])
def test_one_device_of_jax_is_half_a_chip(name):
    chip, one = costax.device(name), costax.device(name).one_of_jax()
    assert (one.jax_devices, one.of_chip) == (1, 2)
    for figure in ("peak.bf16", "memory.bandwidth", "memory.capacity", "link.send"):
        assert one.figures()[figure].value == chip.figures()[figure].value / 2
    assert one.one_of_jax() is one
    assert costax.device("h100").one_of_jax() is costax.device("h100")


def test_a_device_prints_its_sheet_and_is_short_in_a_session():
    h100 = costax.device("h100")
    assert len(repr(h100).splitlines()) <= 5
    assert "bf16 989.4" in repr(h100)
    printed = str(h100)
    assert all(name in printed for name in h100.figures())
    assert "device_kind in jax: NVIDIA H100 80GB HBM3" in printed
    assert "half" not in str(costax.device("v5e"))
    assert "one of them" in str(costax.device("v7x").one_of_jax())


def test_the_cpu_is_calibrated_and_never_tabulated():
    with pytest.raises(LookupError, match="costax calibrate"):
        costax.device("cpu")


def test_contractions_run_on_the_unit_that_jax_uses_by_default():
    h100, v5e, v100 = (costax.device(name) for name in ("h100", "v5e", "v100"))
    assert h100.matmul_peak("f32")[0] == "tf32"
    assert h100.matmul_peak("bf16")[0] == "bf16"
    assert h100.matmul_peak("i8*i8->i32")[0] == "int8"
    assert v5e.matmul_peak("f32")[0] == "bf16"
    assert v100.matmul_peak("f32")[0] == "fp32"
    assert v100.matmul_peak("bf16")[0] == "fp32"


MINE = """
name = "My accelerator"
vendor = "Me"
aliases = ["mine"]
[peak.bf16]
value = 1e14
source = "sheet"
[memory.bandwidth]
value = 1e12
source = "sheet"
unverified = true
[sources.sheet]
title = "Data sheet"
url = ""
date = 2026-01-01
"""


def test_users_add_a_file_of_their_own(no_devices_of_the_user):
    no_devices_of_the_user.mkdir()
    (no_devices_of_the_user / "my-chip.toml").write_text(MINE)
    assert costax.device("mine").peaks["bf16"].value == 1e14
    assert costax.device("my-chip").unverified == ["memory.bandwidth"]
    assert costax.devices().keys() == {"my-chip", *DEVICES}


def test_a_file_that_is_wrong_breaks_no_other_device(no_devices_of_the_user):
    no_devices_of_the_user.mkdir()
    (no_devices_of_the_user / "my-chip.toml").write_text(MINE)
    # The shell creates the file before the command in `costax devices h100-sxm --file > new-chip.toml` starts.
    (no_devices_of_the_user / "new-chip.toml").write_text("")
    assert costax.device("h100").id == "h100-sxm"
    assert costax.device("mine").id == "my-chip"
    with pytest.warns(DeviceFileWarning, match=r"new-chip\.toml' is empty"):
        assert costax.devices().keys() == {"my-chip", *DEVICES}
    with pytest.raises(LookupError, match=r"new-chip\.toml' is empty"):
        costax.device("new-chip")
    # An alias of the new file, perhaps; the message names the file that could not be read.
    with pytest.raises(LookupError, match=r"no device 'newest'(.|\n)*left out: .*new-chip\.toml' is empty"):
        costax.device("newest")


def test_a_file_of_the_user_that_is_wrong_does_not_fall_back_to_the_shipped_one(no_devices_of_the_user):
    no_devices_of_the_user.mkdir()
    (no_devices_of_the_user / "l4.toml").write_text(MINE.replace("value = 1e14", "value = -1"))
    with pytest.raises(LookupError, match="no positive `value`"):
        costax.device("l4")


def test_a_file_may_be_named_by_its_path(tmp_path):
    path = tmp_path / "chip.toml"
    path.write_text(MINE)
    assert costax.device(str(path)).name == "My accelerator"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("value = 1e14", 'value = "fast"', "no positive `value`"),
        ("value = 1e14", "value = -1", "no positive `value`"),
        ('source = "sheet"\n[memory', 'source = "rumour"\n[memory', "not in its \\[sources\\]"),
        ('name = "My accelerator"', "", "no text for the key 'name'"),
        ("[peak.bf16]", "[speed.bf16]", "unknown key 'speed'"),
        ("[peak.bf16]", "[peak.bf16", "is not TOML"),
        ('aliases = ["mine"]', "aliases = 5", "value of the wrong type"),
        ("[peak.bf16]", "[peak.nonsense]", r"unknown \[peak\.nonsense\]; the names in \[peak\] are fp64"),
        ("[memory.bandwidth]", "[memory.speed]", r"unknown \[memory\.speed\]"),
        ("value = 1e14", "value = inf", "no positive `value`"),
        ("value = 1e14", "value = nan", "no positive `value`"),
        ('vendor = "Me"', 'vendor = "Me"\njax_devices = 0', "no positive integer"),
        ('vendor = "Me"', 'vendor = "Me"\njax_devices = 1.5', "no positive integer"),
        ("[sources.sheet]", '[efficiency.bf16_matmul]\nvalue = 50\nsource = "sheet"\n[sources.sheet]', "above 1"),
        ("[sources.sheet]", '[efficiency.bf16]\nvalue = 0.5\nsource = "sheet"\n[sources.sheet]', "unknown"),
        ("[sources.sheet]", "[rates]\nstream = 5\ngather = [[1, 2], [1, 3]]\n[sources.sheet]", "rates.gather"),
        ("[sources.sheet]", '[rates.matmul]\nf32 = "fast"\n[sources.sheet]', "rates.matmul.f32"),
        ("[sources.sheet]", "[rates]\ndispatch = []\n[sources.sheet]", "rates.dispatch"),
        ("[peak.bf16]", "peak = 3\n[power.tdp]", "not a table"),
        ('vendor = "Me"', 'vendor = "Me"\nfamily = "dsp"', "families are cpu, gpu, tpu, neuron"),
        ('vendor = "Me"', 'vendor = "Me"\nbandwidth = 3', "unknown key 'bandwidth'"),
        ("[sources.sheet]", '[network]\nkind = "x"\n[sources.sheet]', "hosts_of"),
        ("[sources.sheet]", "[network]\nhosts_of = 8\nspeed = 1\n[sources.sheet]", r"unknown \[network\.speed\]"),
        ("[sources.sheet]", '[compile]\ncapability = "nine"\n[sources.sheet]', "capability 'nine'"),
        ('vendor = "Me"', 'vendor = "Me"\nlink = "fast"', "value of the wrong type"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path, old, new, complaint):
    path = tmp_path / "chip.toml"
    path.write_text(MINE.replace(old, new, 1))
    with pytest.raises(LookupError, match=complaint):
        costax.device(str(path))


def test_the_page_of_devices_is_made_from_their_files():
    import runpy

    script = Path(__file__).resolve().parents[2] / "docs" / "devices_table.py"
    found = runpy.run_path(str(script))
    assert found["PAGE"].read_text() == found["page"](), "python docs/devices_table.py"
