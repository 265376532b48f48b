"""Names of several devices: slices of TPUs, as Google and jax name them, and GPUs."""

from __future__ import annotations

import pytest

from costax.errors import DeviceError
from costax.performance.hardware import device, slice_of

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("name", "kind", "devices"),
    [
        ("v5e-8", "tpu-v5e", 8),
        ("v5litepod-16", "tpu-v5e", 16),
        ("tpu-v6e-256", "tpu-v6e", 256),
        # These names count cores: a chip has two. jax sees one device in a chip of v4 and v5p, two in one of v2 and v3.
        ("v5p-8", "tpu-v5p", 4),
        ("v4-32", "tpu-v4", 16),
        ("v2-8", "tpu-v2", 8),
        ("v3-8", "tpu-v3", 8),
        ("tpu7x-8", "tpu-v7x", 8),
        ("tpu:v5e:2x4", "tpu-v5e", 8),
        ("tpu:v5p:2x2x4", "tpu-v5p", 16),
        ("tpu:v5e:2x4:3", "tpu-v5e", 24),
        ("h100:8", "h100-sxm", 8),
        ("H100:8", "h100-sxm", 8),
        ("cuda:h100:2x8", "h100-sxm", 16),
        ("8xh100", "h100-sxm", 8),
        ("a100-sxm-80:4", "a100-sxm-80", 4),
        ("mi250x:4", "mi250x", 8),
        # One device, or a name that does not say how many.
        ("h100", "h100-sxm", None),
        ("a100-sxm-80", "a100-sxm-80", None),
        ("tpu:v5e", "tpu-v5e", None),
    ],
)
def test_a_name_says_which_devices_and_how_many_jax_sees(name, kind, devices):
    found = slice_of(name)
    assert (found.device.id, found.devices) == (kind, devices)


def test_a_device_is_taken_as_it_is():
    assert slice_of(device("l4")).device is device("l4")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5p-7", "A slice of 7 chips is v5p-14"),
        ("h100:0", "between 1 and"),
        ("v5e:" + "9" * 5000, "between 1 and"),
        ("9" * 5000 + "xh100", "between 1 and"),
        ("h1000:8", "There is no device 'h1000:8'"),
        ("v5e-", "There is no device"),
        # Gigabytes, not a number of GPUs.
        ("h100-80", "There is no device"),
        ("rtx4090-24", "There is no device"),
        ("v5e:2x", "There is no device"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name, words):
    with pytest.raises(DeviceError, match=words):
        slice_of(name)


@pytest.mark.parametrize(("name", "suggested"), [("v5e8", "v5e-8"), ("V5P16", "v5p-16"), ("v48", "v4-8")])
def test_a_slice_without_its_hyphen_is_suggested_with_it(name, suggested):
    with pytest.raises(DeviceError) as caught:
        slice_of(name)
    assert caught.value.cure == f"Did you mean {suggested}?"
    assert slice_of(suggested).devices


def test_a_gpu_with_a_number_behind_it_is_no_slice():
    with pytest.raises(DeviceError) as caught:
        slice_of("h1008")
    assert "h100-8" not in caught.value.cure
