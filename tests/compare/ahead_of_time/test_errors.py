"""What may go wrong with a machine that is not here, and what is said of it."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

import costax
from aot_targets import H100, V5E, f32, needs
from costax.compare.ahead_of_time import build, machine, names
from costax.errors import DeviceMemoryError, InputError, TargetError, install_command


def big(x):
    return jnp.tanh(x @ x) @ x


@pytest.mark.parametrize("name", ["gpu", "tpu:v9", "cuda", "tpu:", "cuda:h100x", "", "TPU:v5e"])
def test_an_unknown_machine_is_answered_with_the_list(name):
    with pytest.raises(TargetError, match="the machine is unknown") as caught:
        costax.compare(big, target=name)
    assert all(known in caught.value.why for known in names())


@pytest.mark.parametrize("shape", ["", "2x", "x2", "0", "2x2x2x2", "two", "-1", "2x4;", "99999"])
@pytest.mark.parametrize("kind", ["tpu:v5e", "cuda:h100"])
def test_a_shape_that_is_none_is_refused_with_an_example(kind, shape):
    with pytest.raises(TargetError, match="Invalid shape") as caught:
        machine(f"{kind}:{shape}")
    assert kind in caught.value.cure


def test_names_say_what_jax_sees():
    found = {name: machine(name) for name in ("tpu:v5e:2x4", "tpu:v3", "tpu:v4:2x2x2", "cuda:h100:2x8")}
    assert {name: found[name].devices for name in found} == {
        "tpu:v5e:2x4": 8,
        "tpu:v3": 2,  # two cores a chip, each a device
        "tpu:v4:2x2x2": 8,  # two cores a chip, as one device
        "cuda:h100:2x8": 16,
    }
    assert machine("cpu") is None


def test_a_machine_of_the_size_of_a_program_has_its_devices():
    sizes = {"cuda:h100": (1, 8, 16, 12), "tpu:v5e": (1, 8, 16), "tpu:v5p": (1, 8), "tpu:v7x": (2, 8), "tpu:v3": (2, 8)}
    for name, counts in sizes.items():
        assert [machine(build.of_size(name, n)).devices for n in counts] == list(counts)
    assert build.of_size("cuda:h100", 16) == "cuda:h100:2x8"
    assert build.of_size("cpu", 8) == "cpu"


@pytest.mark.parametrize(("target", "extra"), [("tpu:v5e", "tpu"), ("cuda:a100", "cuda")])
def test_a_missing_compiler_is_answered_with_the_line_that_installs_it(monkeypatch, target, extra):
    monkeypatch.setattr(build, "_is_installed", lambda module: False)
    with pytest.raises(TargetError, match="not installed") as caught:
        costax.compare(big, target=target)(f32(8, 8))
    assert caught.value.cure == install_command(extra)


@pytest.mark.parametrize(
    ("name", "devices", "example"), [("cuda:h100:4", 8, "cuda:h100:8"), ("tpu:v5e", 8, "tpu:v5e:2x4")]
)
def test_a_machine_with_too_few_devices_is_answered_with_one_that_has_enough(monkeypatch, name, devices, example):
    monkeypatch.setattr(build, "_is_installed", lambda module: True)
    with pytest.raises(TargetError, match=f"runs on {devices} devices") as caught:
        build._check(machine(name), devices, "step")
    assert example in caught.value.cure
    assert machine(example).devices == devices
    build._check(machine(example), devices, "step")


@pytest.mark.parametrize("target", [V5E])
def test_a_program_that_does_not_fit_is_refused_in_the_compilers_words(target):
    with pytest.raises(DeviceMemoryError, match="does not fit") as caught:
        costax.compare(big, target=target)(f32(100_000, 100_000))
    assert re.search(r"15\.75G|17179869184", caught.value.why)  # 16 GiB, less what the system keeps
    assert isinstance(caught.value, MemoryError)


@needs("cuda")
def test_a_gpu_program_says_whether_it_fits():
    # XLA compiles for a GPU whatever the size: two buffers of 10 GB live beside the argument, in 23.6 GB.
    assert costax.compare(big, target="cuda:l4")(f32(50_000, 50_000)).compiled.fits is False
    assert costax.compare(big, target="cuda:l4")(f32(500, 500)).compiled.fits is True


@pytest.mark.parametrize("target", [V5E])
def test_a_shape_that_no_such_machine_has_is_refused_by_the_compiler(target):
    with pytest.raises(TargetError, match="does not compile") as caught:
        costax.compare(big, target=f"{target}:3x5")(f32(8, 8))
    assert "not divisible" in caught.value.why


@pytest.mark.parametrize("target", [H100, V5E])
def test_a_compiler_that_takes_too_long_is_stopped(target):
    with pytest.raises(TargetError, match=r"more than 0\.01 s"):
        costax.compare(big, target=target, timeout=0.01)(f32(8, 8))


@pytest.mark.parametrize("target", [H100, V5E])
def test_a_compiler_that_dies_is_reported_with_its_last_words(monkeypatch, target):
    # Python ends the process before the compiler is imported.
    monkeypatch.setenv("PYTHONMALLOC", "no such allocator")
    with pytest.raises(TargetError, match="exited with status 1 while it compiled `big`") as caught:
        costax.compare(big, target=target)(f32(8, 8))
    assert "PYTHONMALLOC" in caught.value.why
    assert "pip install --upgrade" in caught.value.cure


@pytest.mark.parametrize("target", [H100, V5E])
def test_an_option_that_the_compiler_does_not_have_is_named(monkeypatch, target):
    with pytest.raises(InputError, match="no option --xla_no_such_flag"):
        costax.compare(big, target=target, xla_flags={"xla_no_such_flag": 1})(f32(8, 8))
    # One of the environment too, which this process has read already.
    jax.devices("cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_no_such_flag=1")
    with pytest.raises(InputError, match="no option --xla_no_such_flag") as caught:
        costax.compare(big, target=target)(f32(8, 8))
    assert "XLA_FLAGS" in caught.value.cure


@pytest.mark.parametrize("target", [H100])
def test_what_a_platform_cannot_lower_is_said(target):
    with pytest.raises(TargetError, match="does not lower"):
        costax.compare(jax.lax.linalg.schur, target=target)(f32(8, 8))
