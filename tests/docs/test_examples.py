"""The example programs: published figures, closed forms, XLA's own count, scopes, and memory."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import costax
from costax.core.conventions import as_xla
from costax.program.tree import BACKWARD, FORWARD, RECOMPUTE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# scaling_law.py: tests/analysis/test_symbols.py
SCRIPTS = {
    "published_numbers.py",
    "does_it_fit.py",
    "roofline.py",
    "predict_vs_measure.py",
    "training_budget.py",
    "scaling_law.py",
}


@functools.cache
def module(file: str):
    spec = importlib.util.spec_from_file_location(f"examples_{Path(file).stem}", EXAMPLES / file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def target(name: str) -> costax.Target:
    file, factory = name.split(":")
    made = getattr(module(file), factory)()
    return made if isinstance(made, costax.Target) else costax.Target(*made)


@functools.cache
def analysis(name: str) -> costax.Analysis:
    made = target(name)
    return costax.analyze(made)()


def macs(name: str) -> int:
    return analysis(name).total.macs


# torchvision, MIT 6.5940 (lecture 2), calflops, Meta, Karpathy's nanoGPT, state-spaces/mamba, google/ddpm-cifar10-32.
PUBLISHED = {
    "first_conv.py:first_conv": (86_704_128, 1_728),
    "resnet.py:resnet18": (1_814_073_344, 11_689_512),
    "resnet.py:resnet50": (4_089_184_256, 25_557_032),
    "vit.py:vit_b_16": (17_563_828_224, 86_567_656),
    "alexnet.py:alexnet": (724_406_816, 60_965_224),
    "alexnet.py:alexnet_224": (724_406_816, 60_965_224),
    "mobilenet.py:mobilenet_v2": (300_774_272, 3_504_872),
    "llama.py:llama2_7b": (850_000_871_424, 6_738_415_616),
    "llama.py:llama3_405b_train_step": (None, 405_853_388_800),
    "gpt2.py:gpt2_small": (None, 124_439_808),
    "gpt2.py:gpt2_train_step": (None, 124_439_808),
    "resnet.py:resnet50_train_step": (None, 25_557_032),
    "mamba.py:mamba_130m": (None, 129_135_360),
    "diffusion_unet.py:ddpm_unet": (None, 35_746_307),
}


def gpt2_forward(tokens: int) -> int:
    width, layers, vocab = 768, 12, 50257
    projections = 3 + 1 + 4 + 4
    return layers * (projections * width**2 * tokens + 2 * width * tokens**2) + width * vocab * tokens


def lstm_forward() -> int:
    units, vocab, layers, words = 650, 10_000, 2, 35 * 20
    return words * (layers * (2 * units) * (4 * units) + units * vocab)


def mamba_forward() -> int:
    width, inner, state, rank, vocab, tokens = 768, 1536, 16, 48, 50280, 1024
    projections = width * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * width
    taps, readout = 4 * inner, inner * state
    return tokens * (24 * (projections + taps + readout) + width * vocab)


def moe_forward(experts_a_token: int) -> int:
    tokens, width, hidden, experts = 4096, 4096, 14336, 8
    return tokens * (experts_a_token * 3 * width * hidden + width * experts)


def ddpm_forward() -> int:
    """Sum the layers by hand: three levels of 2 + 3 residual blocks and one at 4 x 4, attention at 16 x 16."""

    def conv(side: int, c_in: int, c_out: int, kernel: int = 3) -> int:
        return side**2 * kernel**2 * c_in * c_out

    def res(side: int, c_in: int, c_out: int) -> int:
        shortcut = conv(side, c_in, c_out, 1) if c_in != c_out else 0
        return conv(side, c_in, c_out) + conv(side, c_out, c_out) + 512 * c_out + shortcut

    def attention(side: int, c: int) -> int:
        return 4 * conv(side, c, c, 1) + 2 * side**4 * c

    down = (
        [res(32, 128, 128)] * 2
        + [res(16, 128, 256), res(16, 256, 256)]
        + [res(8, 256, 256)] * 2
        + [res(4, 256, 256)] * 2
    )
    # The way up meets the states of the way down in reverse: 256 + 256 channels until level 0 ends.
    up = [res(4, 512, 256)] * 3 + [res(8, 512, 256)] * 3 + [res(16, 512, 256)] * 2 + [res(16, 384, 256)]
    up += [res(32, 384, 128)] + [res(32, 256, 128)] * 2
    halve = conv(16, 128, 128) + conv(8, 256, 256) + conv(4, 256, 256)
    double = conv(8, 256, 256) + conv(16, 256, 256) + conv(32, 256, 256)
    middle = 2 * res(4, 256, 256) + attention(4, 256)
    ends = conv(32, 3, 128) + conv(32, 128, 3) + 128 * 512 + 512 * 512
    return sum(down) + sum(up) + halve + double + middle + (2 + 3) * attention(16, 256) + ends


LLAMA3_TOKENS = 2048 * 8192
LLAMA3_HEAD = LLAMA3_TOKENS * 16384 * 128256
LLAMA3_DOWN = LLAMA3_TOKENS * 126 * 16384 * 53248


def llama3_forward() -> int:
    width, hidden, kv_width = 16384, 53248, 8 * 128
    layer = 2 * width**2 + 2 * width * kv_width + 3 * width * hidden
    attention = 2 * 8192 * width
    return LLAMA3_TOKENS * 126 * (layer + attention) + LLAMA3_HEAD


def mlp_train() -> int:
    # Weights and inputs have a gradient each, but nobody asks for that of the images.
    return 128 * (3 * (784 * 512 + 512 * 512 + 512 * 10) - 784 * 512)


STEM_OF_RESNET = 112 * 112 * 7 * 7 * 3 * 64

CLOSED_FORMS = {
    "first_conv.py:first_conv": 224 * 224 * 64 * 3 * 3 * 3,
    "conv.py:standard": 56 * 56 * 9 * 128 * 128,
    "conv.py:grouped": 56 * 56 * 9 * 128 * 32,
    "conv.py:depthwise_separable": 56 * 56 * (9 + 128) * 128,
    "conv.py:bottleneck": 56 * 56 * (128 * 32 + 9 * 32 * 32 + 32 * 128),
    "first_conv.py:first_conv_gradient": 2 * 224 * 224 * 64 * 3 * 3 * 3,
    "gpt2.py:gpt2_small": gpt2_forward(1024),
    "gpt2.py:gpt2_train_step": 3 * 8 * gpt2_forward(1024),
    "lstm.py:lstm_language_model": lstm_forward(),
    "lstm.py:lstm_train_step": 3 * lstm_forward(),
    "mamba.py:mamba_130m": mamba_forward(),
    "mlp_train.py:mlp_forward": 128 * (784 * 512 + 512 * 512 + 512 * 10),
    "mlp_train.py:mlp_train_step": mlp_train(),
    "moe.py:moe_layer": moe_forward(experts_a_token=2),
    "moe.py:moe_layer_dense": moe_forward(experts_a_token=8),
    "diffusion_unet.py:ddpm_unet": ddpm_forward(),
    "resnet.py:resnet50_train_step": 32 * (3 * 4_089_184_256 - STEM_OF_RESNET),
    "llama.py:llama3_405b_train_step": 4 * llama3_forward() - LLAMA3_HEAD - LLAMA3_DOWN,
}

NAMES = sorted(PUBLISHED.keys() | CLOSED_FORMS.keys())
# Their analysis takes a second or more.
LONG = {"gpt2.py:gpt2_train_step", "mamba.py:mamba_130m", "resnet.py:resnet50_train_step"}


def each(*rows: str | tuple[Any, ...]) -> list[Any]:
    """Return the names of examples, or rows that begin with one, as parameters of a test.

    All tests of an example run in one process of pytest-xdist, where they share its analysis.
    """
    named = [(row,) if isinstance(row, str) else row for row in rows]
    return [
        pytest.param(*row, marks=[pytest.mark.xdist_group(row[0]), *[pytest.mark.slow] * (row[0] in LONG)])
        for row in named
    ]


@pytest.mark.parametrize("name", each(*sorted(PUBLISHED)))
def test_published_figures_come_out(name):
    published_macs, params = PUBLISHED[name]
    assert analysis(name).params == params
    if published_macs is not None:
        assert macs(name) == published_macs


@pytest.mark.parametrize("name", each(*sorted(CLOSED_FORMS)))
def test_the_macs_are_those_of_the_closed_form(name):
    assert macs(name) == CLOSED_FORMS[name]


@pytest.mark.parametrize("name", each(*NAMES))
def test_every_example_is_counted_exactly_and_wholly(name):
    found = analysis(name)
    assert found.exact
    assert not found.uncounted


@pytest.mark.parametrize("name", each(*NAMES))
def test_parents_equal_the_sum_of_their_children(name):
    found = analysis(name)
    for table in (found.by_scope(), found.by_scope(1), found.by_primitive(), found.by_source(), found.by_direction()):
        assert costax.Cost.sum(table.values()) == found.total
    assert sum(size.elements for size in found.params_by_scope().values()) == found.params


@pytest.mark.parametrize("name", each(*NAMES))
def test_no_array_is_made(name):
    leaves = jax.tree.leaves(((target(name).fn,), target(name).args))
    assert not any(isinstance(leaf, jax.Array) for leaf in leaves)


def test_every_example_file_is_tested():
    files = {path.name for path in EXAMPLES.glob("*.py")}
    assert files == {name.split(":")[0] for name in NAMES} | SCRIPTS


# Scopes.


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    each(
        ("first_conv.py:first_conv", "conv", 86_704_128),
        ("resnet.py:resnet18", "conv1", 118_013_952),
        ("resnet.py:resnet18", "layer2_0/downsample", 28 * 28 * 64 * 128),
        ("resnet.py:resnet18", "fc", 512 * 1000),
        ("alexnet.py:alexnet", "conv1", 105_415_200),
        ("alexnet.py:alexnet", "conv2", 223_948_800),
        ("alexnet.py:alexnet", "conv3", 149_520_384),
        ("alexnet.py:alexnet", "conv4", 112_140_288),
        ("alexnet.py:alexnet", "conv5", 74_760_192),
        ("alexnet.py:alexnet", "fc6", 37_748_736),
        ("mobilenet.py:mobilenet_v2", "stage1_0/depthwise/conv", 112 * 112 * 3 * 3 * 32),
        ("vit.py:vit_b_16", "blocks/11/mlp/up", 197 * 768 * 3072),
        ("vit.py:vit_b_16", "patches", 14 * 14 * 16 * 16 * 3 * 768),
        ("mamba.py:mamba_130m", "blocks/0/into", 1024 * 768 * 3072),
        ("diffusion_unet.py:ddpm_unet", "down/0/0/conv1", 32 * 32 * 9 * 128 * 128),
        ("llama.py:llama2_7b", "layer_31/attention/query", 128 * 4096**2),
        ("llama.py:llama2_7b", "head", 128 * 4096 * 32000),
        ("gpt2.py:gpt2_small", "block_11/down", 1024 * 3072 * 768),
        ("lstm.py:lstm_language_model", "lstm_1/linear", 700 * 1300 * 2600),
        ("moe.py:moe_layer", "experts/down", 2 * 4096 * 14336 * 4096),
    ),
)
def test_each_layer_has_its_scope(name, scope, expected):
    found = {path: cost.macs for path, cost in analysis(name).by_scope().items() if f"/{path}".endswith(f"/{scope}")}
    # A network of one layer of that name: `conv1` is also the first layer of each block, `net/conv1` is the shortest.
    assert found[min(found, key=len)] == expected


def test_a_training_step_is_split_into_its_directions():
    split = {
        direction: cost.macs for direction, cost in analysis("llama.py:llama3_405b_train_step").by_direction().items()
    }
    assert split[FORWARD] == llama3_forward()
    assert split[BACKWARD] == 2 * llama3_forward()
    # The backward pass needs neither the logits again nor what the last product of a layer gives.
    assert split[RECOMPUTE] == llama3_forward() - LLAMA3_HEAD - LLAMA3_DOWN


def test_llama_405b_costs_what_the_paper_says_and_attention_on_top():
    forward_and_backward = 3 * llama3_forward()
    per_token = 2 * forward_and_backward / LLAMA3_TOKENS
    assert per_token * 15.6e12 == pytest.approx(1.08 * 3.8e25, rel=0.01)
    params = analysis("llama.py:llama3_405b_train_step").params
    assert 6 * params * 15.6e12 == pytest.approx(3.8e25, rel=0.01)


# XLA.


def lowered_flops(name: str) -> float:
    return analysis(name).program.traced.lower().cost_analysis()["flops"]


def test_xla_leaves_out_the_products_with_padding():
    total = analysis("first_conv.py:first_conv").total
    assert total.flops == 173_408_256
    assert lowered_flops("first_conv.py:first_conv") == 172_377_600 == 2 * (total.macs - total.padding_macs)


@pytest.mark.parametrize(
    "name",
    each(
        "first_conv.py:first_conv_gradient",
        "alexnet.py:alexnet",
        "alexnet.py:alexnet_224",
        "mlp_train.py:mlp_forward",
        "mobilenet.py:mobilenet_v2",
        "resnet.py:resnet18",
        "resnet.py:resnet50",
    ),
)
def test_xla_counts_what_we_count_without_padding(name):
    # XLA sums in float32: each of some hundred additions rounds a total of 10^9 to a multiple of 256 or 512.
    flops, _ = as_xla(analysis(name).total)
    assert lowered_flops(name) == pytest.approx(flops, rel=1e-6)


@pytest.mark.parametrize(
    "name",
    each(
        "vit.py:vit_b_16",
        "gpt2.py:gpt2_train_step",
        "llama.py:llama2_7b",
        "mamba.py:mamba_130m",
        "diffusion_unet.py:ddpm_unet",
        "mlp_train.py:mlp_train_step",
        "resnet.py:resnet50_train_step",
    ),
)
def test_xla_is_within_two_percent_where_nothing_loops(name):
    # What is left is how XLA writes out erf, sines, random draws, conversions and the like.
    flops, _ = as_xla(analysis(name).total)
    assert lowered_flops(name) == pytest.approx(flops, rel=0.02)


def test_xla_counts_one_of_the_35_steps_of_an_lstm():
    layers = macs("lstm.py:lstm_language_model") - 700 * 650 * 10_000
    one_step = layers // 35
    assert lowered_flops("lstm.py:lstm_language_model") == pytest.approx(2 * (700 * 650 * 10_000 + one_step), rel=0.002)


# Memory, and the script.


def test_a_training_step_of_405_billion_parameters_is_analysed_in_two_gigabytes():
    program = """
import re, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import costax, llama
analysis = costax.analyze(llama.llama3_405b_train_step())()
# On Linux getrusage starts from the peak of the process that started this one.
status = Path("/proc/self/status")
peak = (
    int(re.search("VmHWM:[^0-9]*([0-9]+)", status.read_text())[1]) * 1024
    if status.exists()
    else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
)
print(analysis.params, peak)
"""
    done = subprocess.run([sys.executable, "-c", program, EXAMPLES], capture_output=True, text=True, check=True)
    params, peak = map(int, done.stdout.split())
    assert params == 405_853_388_800
    assert peak < 2 * 10**9


@pytest.mark.long
def test_published_numbers_tells_right_claims_from_parameter_counts_in_disguise():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "published_numbers.py"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert "resnet18: 1,814,073,344 MACs, 11,689,512 parameters" in lines
    assert "vit_b_16: 17,563,828,224 MACs, 86,567,656 parameters" in lines
    disguised = [" ".join(line.split()) for line in lines if "a page in circulation" in line]
    assert disguised == [
        "11.70 G FLOPs a page in circulation 3.22 x: 1000 x the parameters",
        "81.90 G FLOPs a page in circulation 2.33 x: 1000 x the parameters",
    ]
    assert all(line.endswith("right") for line in lines if "torchvision" in line)
    assert max(map(len, lines)) <= 80


def test_published_numbers_does_nothing_when_imported(monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    imported = importlib.import_module("published_numbers")
    assert imported.CLAIMS
    assert capsys.readouterr().out == ""


# Scripts that predict and measure.


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("does_it_fit.py", ["does not fit", "The largest buffers at the peak", "jax.checkpoint"]),
        ("roofline.py", ["TPU v5e", "bound by arithmetic from 248 tokens on", "304 tokens"]),
        ("training_budget.py", ["NVIDIA H100", "kWh", "cost  ", "MFU"]),
        pytest.param(
            *("predict_vs_measure.py", ["batch  predicted   measured", "standard error"]), marks=pytest.mark.long
        ),
    ],
)
def test_the_scripts_on_time_and_memory_run(script, said, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [script])
    importlib.import_module(Path(script).stem).main()
    out = capsys.readouterr().out
    for words in said:
        assert words in out, out
    assert max(map(len, out.splitlines())) <= 200
