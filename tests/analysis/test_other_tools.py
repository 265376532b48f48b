"""Other tools' numbers: what they printed when they ran, and what they publish, from our trace."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax

import costax
from costax.analysis.other_tools.conventions import CONVENTIONS
from costax.analysis.other_tools.layers import (
    ACTIVATION,
    ATTENTION,
    BIAS,
    GROUP_NORM,
    LAYER_NORM,
    LINEAR,
    PRODUCT,
    layers_of,
)
from costax.errors import InputError

# One process of pytest-xdist runs all of them: they share the analyses of the models.
pytestmark = pytest.mark.xdist_group("other tools")

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "examples"))

# What benchmarks/peers.py printed: the tools themselves, on torchvision's models.
RAN = json.loads((ROOT / "benchmarks" / "peers.json").read_text())["figures"]


def factory(model: str):
    import mobilenet
    import resnet
    import vit

    factories = (resnet.resnet18, resnet.resnet50, mobilenet.mobilenet_v2, vit.vit_b_16)
    return {function.__name__: function for function in factories}[model]


@cache
def counted(model: str) -> costax.Analysis:
    return costax.analyze(costax.Target(*factory(model)()))()


def printed(model: str) -> dict[str, float]:
    ran = RAN[model]
    return {
        "fvcore": ran["fvcore"]["total"],
        "thop": ran["thop"],
        "ptflops": ran["ptflops"]["pytorch"],
        "ptflops:aten": ran["ptflops"]["aten"],
        "torchinfo": ran["torchinfo"],
        "deepspeed": ran["deepspeed"][0],
        "deepspeed:macs": ran["deepspeed"][1],
        "calflops": ran["calflops"][0],
        "calflops:macs": ran["calflops"][1],
    }


# Where torchvision's program is another one: its MobileNet pools by a function, which hooks on modules do not see.
OTHER_PROGRAM = {("mobilenet_v2", "thop"): -(7 * 7 + 1) * 1280, ("mobilenet_v2", "ptflops"): -7 * 7 * 1280}


@pytest.mark.parametrize("model", RAN)
def test_a_tools_number_is_what_the_tool_printed_to_the_unit(model):
    for tool, figure in printed(model).items():
        assert counted(model).as_(tool) + OTHER_PROGRAM.get((model, tool), 0) == figure, tool


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "mobilenet_v2"])
def test_torch_counts_a_forward_pass_as_it_did(model):
    assert counted(model).as_("torch") == RAN[model]["torch_counter"]


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2"])
def test_torch_counts_a_backward_pass_as_it_did_grouped_gradients_undivided(model):
    module, (image,) = factory(model)()
    variables = dict(jax.eval_shape(module.init, costax.spec("key<fry>[]"), image))
    params = variables.pop("params")

    def total(params, rest, x):
        return module.apply({"params": params, **rest}, x).sum()

    step = costax.analyze(jax.value_and_grad(total), params_argnums=0)(params, variables, image)
    assert step.as_("torch") == RAN[model]["torch_training"]
    assert bool(step.explain_vs("torch").defects) == (model == "mobilenet_v2")


def test_torch_counts_the_recomputed_product_of_its_fused_attention():
    from flax import nnx

    model, arguments = factory("vit_b_16")()
    step = costax.analyze(nnx.value_and_grad(lambda m, x: m(x).sum()))(model, *arguments)
    assert step.as_("torch") == RAN["vit_b_16"]["torch_training"]


# GMACs, of torchvision's weights.meta, of timm's tables (fvcore), of ptflops' README (pytorch, aten), of thop's README.
# Rows of thop that its own code no longer prints (ResNet-50: 4.14 for 4.13) are left out.
PUBLISHED = [
    ("resnet18", "torchvision", "1.814"),
    ("resnet50", "torchvision", "4.089"),
    ("mobilenet_v2", "torchvision", "0.301"),
    ("vit_b_16", "torchvision", "17.564"),
    ("resnet18", "fvcore", "1.82"),
    ("resnet50", "fvcore", "4.11"),
    ("mobilenet_v2", "fvcore", "0.31"),
    ("resnet18", "ptflops", "1.83"),
    ("resnet50", "ptflops", "4.13"),
    ("mobilenet_v2", "ptflops", "0.32"),
    ("vit_b_16", "ptflops", "17.61"),
    ("resnet18", "ptflops:aten", "1.81"),
    ("resnet50", "ptflops:aten", "4.09"),
    ("vit_b_16", "ptflops:aten", "16.86"),
    ("resnet18", "thop", "1.82"),
    ("mobilenet_v2", "thop", "0.33"),
]


@pytest.mark.parametrize(("model", "tool", "figure"), PUBLISHED)
def test_a_published_figure_is_the_tools_number_rounded(model, tool, figure):
    digits = len(figure.partition(".")[2])
    assert f"{counted(model).as_(tool) / 1e9:.{digits}f}" == figure


@pytest.mark.parametrize("tool", CONVENTIONS)
def test_the_reasons_lead_from_our_number_to_theirs(tool):
    found = counted("vit_b_16").explain_vs(tool)
    assert found.ours + sum(reason.count for reason in found.reasons) == found.count
    assert found.ours in (counted("vit_b_16").total.macs, 2 * counted("vit_b_16").total.macs, 35186846256) or (
        found.ours == counted("vit_b_16").total.flops
    )
    assert not found.layers or sum(found.layers.values()) == found.count
    assert f"= {tool}" in str(found)


def test_megatrons_number_is_its_formula():
    import gpt2

    step = costax.analyze(gpt2.gpt2_train_step())()
    b, s, layers, h, v = 8, 1024, 12, 768, 50257
    # 72 B s l h^2 (1 + s / 6h + V / 12hl): equation 3 of the paper, without recomputation.
    assert step.as_("megatron") == 72 * b * s * layers * h**2 + 12 * b * s**2 * layers * h + 6 * b * s * h * v
    # 6 N + 12 L H Q T a token: PaLM, appendix B.
    assert step.as_("palm-mfu") == (6 * 124_439_808 + 12 * layers * 12 * 64 * s) * b * s


def test_recomputed_work_is_megatrons_and_not_palms():
    w, x = costax.spec("f32[16,16]"), costax.spec("f32[4,8,16]")

    @jax.checkpoint
    def layer(w, x):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    def loss(w, x):
        return layer(w, x).sum()

    plain = costax.analyze(jax.value_and_grad(lambda w, x: layer.__wrapped__(w, x).sum()), params_argnums=0)(w, x)
    again = costax.analyze(jax.value_and_grad(loss), params_argnums=0)(w, x)
    recomputed = again.by_direction()["recompute"].macs
    assert recomputed
    assert again.as_("megatron") - plain.as_("megatron") == 2 * recomputed
    assert again.as_("palm-mfu") == plain.as_("palm-mfu") == 6 * 16 * 16 * 4 * 8


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda x: lax.scan(lambda c, _: (jnp.tanh(c @ x), None), x, None, length=7)[0], ["f32[8,8]"]),
        (lambda x, w: lax.conv(x, w, (1, 1), "SAME"), ["f32[1,3,8,8]", "f32[4,3,3,3]"]),
        (lambda x: jnp.where(x > 2, x * 3, x + 1), ["i32[64]"]),
    ],
)
def test_xlas_laws_on_the_jaxpr_are_the_first_sum_of_the_account(function, arguments):
    given = [costax.spec(text) for text in arguments]
    found = costax.compare(function)(*given)
    by_law = found.jaxpr.total.flops + sum(delta.flops for delta in found.deltas if delta.stage == "jaxpr")
    assert found.jaxpr.as_("xla") == by_law


def kinds(function, *specs, **options):
    found = layers_of(costax.analyze(function, **options)(*map(costax.spec, specs)))
    return [(part.kind, part.count) for part in found]


def test_layers_are_found_by_what_they_do():
    def dense(w, b, x):
        return jax.nn.relu(x @ w + b)

    assert kinds(dense, "f32[8,3]", "f32[3]", "f32[4,8]", params_argnums=(0, 1)) == [
        (LINEAR, 4 * 8 * 3),
        (BIAS, 4 * 3),
        (ACTIVATION, 4 * 3),
    ]


def test_a_batched_product_of_activations_is_attention_and_one_with_weights_is_not():
    product = lambda a, b: jnp.einsum("bij,bjk->bik", a, b)  # noqa: E731
    assert kinds(product, "f32[2,4,8]", "f32[2,8,3]") == [(ATTENTION, 2 * 4 * 8 * 3)]
    assert kinds(product, "f32[2,4,8]", "f32[2,8,3]", params_argnums=1) == [(LINEAR, 2 * 4 * 8 * 3)]
    assert kinds(jnp.matmul, "f32[4,8]", "f32[8,3]") == [(PRODUCT, 4 * 8 * 3)]


@pytest.mark.parametrize(
    ("norm", "kind", "shape"),
    [
        (nn.LayerNorm(), LAYER_NORM, "f32[4,6,16]"),
        (nn.RMSNorm(), LAYER_NORM, "f32[4,6,16]"),
        (nn.GroupNorm(num_groups=4), GROUP_NORM, "f32[4,6,6,16]"),
    ],
)
def test_norms_are_told_apart_by_what_they_reduce(norm, kind, shape):
    x = costax.spec(shape)
    found = layers_of(costax.analyze(norm)(x))
    assert [(part.kind, part.count, part.affine) for part in found] == [(kind, x.size, True)]


def test_a_layer_in_a_loop_counts_as_often_as_it_runs():
    def loop(w, x):
        return lax.scan(lambda c, _: (c @ w, None), x, None, length=5)[0]

    assert kinds(loop, "f32[8,8]", "f32[4,8]", params_argnums=0) == [(LINEAR, 5 * 4 * 8 * 8)]


def test_a_tool_that_nobody_knows_is_an_error_that_lists_the_known():
    with pytest.raises(InputError, match="fvcore, thop"):
        counted("resnet18").as_("flopper")


def test_a_forward_tool_refuses_a_training_step():
    step = costax.analyze(jax.value_and_grad(lambda w, x: (x @ w).sum()))(
        costax.spec("f32[8,3]"), costax.spec("f32[4,8]")
    )
    with pytest.raises(InputError, match="counts forward passes only"):
        step.as_("thop")


def test_a_record_has_no_equations_to_read(tmp_path):
    counted("resnet18").save(tmp_path / "a.json")
    with pytest.raises(InputError, match="was loaded from a record"):
        costax.load(tmp_path / "a.json").as_("thop")


def test_palms_formula_needs_the_parameters():
    with pytest.raises(InputError, match="params_argnums"):
        costax.analyze(jnp.matmul)(costax.spec("f32[4,8]"), costax.spec("f32[8,3]")).as_("palm-mfu")


# Recurrent layers and attention modules. Measured with the tools (torch 2.13 on a CPU): nn.LSTM(64, 64) and
# nn.GRU(64, 64) on 100 steps; nn.LSTM(16, 32) on 5 steps of 2 sequences; see the tables of each test.


def linen_cell(cell, features, steps, batch, width):
    return costax.analyze(nn.RNN(getattr(nn, cell)(features)))(costax.spec(f"f32[{batch},{steps},{width}]"))


def nnx_cell(cell, features, steps, batch, width):
    from flax import nnx

    layer = nnx.RNN(getattr(nnx, cell)(width, features, rngs=nnx.Rngs(0)))
    return costax.analyze(layer)(costax.spec(f"f32[{batch},{steps},{width}]"))


def equinox_cell(cell, features, steps, batch, width):
    import equinox as eqx

    layer = getattr(eqx.nn, cell)(width, features, key=jax.random.key(0))
    state = jnp.zeros(features) if cell == "GRUCell" else (jnp.zeros(features), jnp.zeros(features))

    def run(layer, sequences):
        step = lambda xs: lax.scan(lambda h, x: (layer(x, h), None), state, xs)[0]  # noqa: E731
        return jax.vmap(step)(sequences)

    return costax.analyze(run, params_argnums=0)(layer, costax.spec(f"f32[{batch},{steps},{width}]"))


def plain_lstm(features, steps, batch, width, at_once=False):
    def step(params, carry, x):
        h, c = carry
        if at_once:
            gates = jnp.concatenate([x, h], -1) @ jnp.concatenate([params["w"], params["u"]])
        else:
            gates = x @ params["w"] + h @ params["u"]
        i, f, g, o = jnp.split(gates + params["b"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    def run(params, xs):
        state = jnp.zeros((batch, features)), jnp.zeros((batch, features))
        return lax.scan(lambda carry, x: step(params, carry, x), state, xs)[0]

    shapes = {"w": (width, 4 * features), "u": (features, 4 * features), "b": (4 * features,)}
    params = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes.items()}
    return costax.analyze(run, params_argnums=0)(params, costax.spec(f"f32[{steps},{batch},{width}]"))


@pytest.mark.parametrize(
    "lstm",
    [
        lambda *sizes: linen_cell("LSTMCell", *sizes),
        lambda *sizes: linen_cell("OptimizedLSTMCell", *sizes),
        lambda *sizes: nnx_cell("LSTMCell", *sizes),
        lambda *sizes: nnx_cell("OptimizedLSTMCell", *sizes),
        lambda *sizes: equinox_cell("LSTMCell", *sizes),
        plain_lstm,
        lambda *sizes: plain_lstm(*sizes, at_once=True),
    ],
)
def test_an_lstm_counts_what_the_tools_printed(lstm):
    large, small = lstm(64, 100, 1, 64), lstm(32, 5, 2, 16)
    printed = {"thop": 3_379_200, "torchinfo": 3_328_000, "fvcore": 0, "torch": 0}
    assert {tool: large.as_(tool) for tool in printed} == printed
    printed = {"thop": 66_560, "torchinfo": 64_000, "fvcore": 0, "ptflops": 2 * 33_600, "calflops:macs": 0}
    assert {tool: small.as_(tool) for tool in printed} == printed


@pytest.mark.parametrize("library", [linen_cell, nnx_cell, equinox_cell])
def test_a_gru_counts_what_the_tools_printed(library):
    found = library("GRUCell", 64, 100, 1, 64)
    printed = {"thop": 2_540_800, "torchinfo": 2_496_000, "fvcore": 0, "torch": 4_915_200}
    assert {tool: found.as_(tool) for tool in printed} == printed


def test_two_recurrent_layers_are_two():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.RNN(nn.LSTMCell(64))(nn.RNN(nn.LSTMCell(64))(x))

    assert costax.analyze(Two())(costax.spec("f32[1,100,64]")).as_("thop") == 2 * 3_379_200


def test_haikus_lstms_count_as_such():
    import lstm

    fn, arguments = lstm.lstm_language_model()
    found = costax.analyze(fn)(*arguments)
    units, steps = 650, 35 * 20
    cells = 2 * (8 * units * units + 16 * units) * steps
    assert found.as_("thop") == cells + units * 10_000 * steps


@pytest.mark.parametrize("tool", ["deepspeed", "ptflops:aten", "torchinfo"])
def test_a_cell_that_was_not_measured_is_refused(tool):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.RNN(nn.GRUCell(8) if tool != "torchinfo" else nn.MGUCell(8))(x)

    with pytest.raises(InputError, match="cannot be told from the jaxpr"):
        costax.analyze(Net())(costax.spec("f32[1,7,4]")).as_(tool)


def test_a_product_of_the_inputs_before_the_loop_is_refused_and_not_taken_for_a_linear_layer():
    def run(params, xs):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x + h @ params["u"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        state = jnp.zeros((2, 8)), jnp.zeros((2, 8))
        return lax.scan(step, state, xs @ params["w"])[0]

    params = {"w": costax.spec("f32[4,32]"), "u": costax.spec("f32[8,32]")}
    found = costax.analyze(run, params_argnums=0)(params, costax.spec("f32[5,2,4]"))
    with pytest.raises(InputError, match="cannot be told"):
        found.as_("torchinfo")


def test_a_scan_over_dense_layers_is_no_recurrent_layer():
    def run(params, x):
        return lax.scan(lambda x, w: (jnp.tanh(jax.nn.sigmoid(x @ w) @ w), None), x, params)[0]

    found = costax.analyze(run, params_argnums=0)(costax.spec("f32[6,8,8]"), costax.spec("f32[4,8]"))
    assert found.as_("thop") == 2 * 6 * 4 * 8 * 8


def attentions(batch, tokens, width, heads):
    from flax import nnx

    x = costax.spec(f"f32[{batch},{tokens},{width}]")
    yield costax.analyze(nn.MultiHeadDotProductAttention(heads))(x)
    yield costax.analyze(nnx.MultiHeadAttention(heads, width, decode=False, rngs=nnx.Rngs(0)))(x)


def test_an_attention_module_counts_what_the_tools_printed():
    # nn.MultiheadAttention(192, 3) on 197 tokens.
    printed = {"thop": 0, "torchinfo": 0, "fvcore": 43_951_488, "torch": 87_902_976}
    for found in attentions(1, 197, 192, 3):
        assert {tool: found.as_(tool) for tool in printed} == printed
    # nn.MultiheadAttention(64, 4) on 10 tokens of 2 sequences; ptflops runs one sequence.
    printed = {"fvcore": 353_280, "deepspeed:macs": 353_280, "calflops:macs": 327_680, "thop": 0, "torchinfo": 0}
    for found in attentions(2, 10, 64, 4):
        assert {tool: found.as_(tool) for tool in printed} == printed
    for found in attentions(1, 10, 64, 4):
        assert {tool: found.as_(tool) for tool in ("ptflops", "ptflops:aten")} == {
            "ptflops": 193_440,
            "ptflops:aten": 179_200,
        }


def test_the_root_of_the_size_of_a_head_is_no_norm():
    found = costax.analyze(nn.MultiHeadDotProductAttention(4))(costax.spec("f32[2,10,64]"))
    assert not {layer.kind for layer in layers_of(found)} & {"batch norms", LAYER_NORM, GROUP_NORM}
    assert (
        costax.analyze(lambda x: x / jnp.sqrt(jnp.float32(64)), params_argnums=())(costax.spec("f32[2,10,64]")).as_(
            "fvcore"
        )
        == 0
    )


# Convolutions in torch: all taps at all output positions, at all input positions of a transposed one.


@pytest.mark.parametrize(
    ("positions", "taps", "padding", "groups"),
    [(32, 4, (3, 3), 512), (32, 4, (3, 0), 512), (7, 3, (5, 5), 1), (5, 9, (4, 4), 2), (9, 2, (0, 0), 3)],
)
def test_torch_counts_all_taps_at_all_output_positions(positions, taps, padding, groups):
    channels = 512 if groups == 512 else 6
    x = costax.spec(f"f32[2,{channels},{positions}]")
    kernel = costax.spec(f"f32[{channels},{channels // groups},{taps}]")

    def convolution(kernel, x):
        return lax.conv_general_dilated(x, kernel, (1,), [padding], feature_group_count=groups)

    results = sum(1 for start in range(-padding[0], positions + padding[1] - taps + 1))
    expected = 2 * 2 * results * taps * channels * channels // groups
    found = costax.analyze(convolution, params_argnums=0)(kernel, x)
    assert found.as_("torch") == 2 * found.as_("fvcore") == 2 * found.as_("torchvision") == expected
    answer = found.explain_vs("torch")
    assert answer.ours + sum(reason.count for reason in answer.reasons) == answer.count


def test_a_causal_convolution_of_mamba_counts_71680_macs():
    x, kernel = costax.spec("f32[1,512,32]"), costax.spec("f32[512,1,4]")
    found = costax.analyze(
        lambda k, x: lax.conv_general_dilated(x, k, (1,), [(3, 3)], feature_group_count=512), params_argnums=0
    )(kernel, x)
    assert (found.total.macs, found.as_("torch")) == (65_536, 2 * 71_680)


@pytest.mark.parametrize(("stride", "padding"), [(1, 3), (1, 0), (2, 1)])
def test_torch_counts_both_gradients_of_a_convolution_like_the_convolution(stride, padding):
    x, kernel = costax.spec("f32[2,3,16]"), costax.spec("f32[5,3,4]")

    def total(kernel, x):
        return (lax.conv_general_dilated(x, kernel, (stride,), [(padding, padding)]) ** 2).sum()

    step = costax.analyze(jax.value_and_grad(total, argnums=(0, 1)), params_argnums=0)(kernel, x)
    results = (16 + 2 * padding - 4) // stride + 1
    assert step.as_("torch") == 3 * 2 * 2 * results * 4 * 3 * 5


# Tools that count parameters, biases and norms cannot count a program whose parameters are not known.


@pytest.mark.parametrize("tool", sorted({*CONVENTIONS} - {"torchvision", "torch", "xla", "megatron", "deepspeed:macs"}))
def test_a_tool_that_counts_by_parameters_refuses_to_guess_them(tool):
    unknown = costax.analyze(lambda w, x: jax.nn.relu(x @ w))(costax.spec("f32[8,3]"), costax.spec("f32[4,8]"))
    with pytest.raises(InputError, match="params_argnums"):
        unknown.as_(tool)


@pytest.mark.parametrize("function", [jnp.matmul, lambda w, x: jnp.tanh(w @ x), lambda w, x: w @ x + 1])
def test_a_program_without_parameters_can_say_so(function):
    found = costax.analyze(function, params_argnums=())(costax.spec("f32[8,3]"), costax.spec("f32[3,4]"))
    assert found.as_("fvcore") == 8 * 3 * 4


def test_torch_counts_a_forward_pass_without_knowing_the_parameters():
    found = costax.analyze(jnp.matmul)(costax.spec("f32[8,3]"), costax.spec("f32[3,4]"))
    assert found.as_("torch") == 2 * found.as_("torchvision") == 2 * 8 * 3 * 4
    step = costax.analyze(jax.grad(lambda w, x: (w @ x).sum()))(costax.spec("f32[8,3]"), costax.spec("f32[3,4]"))
    with pytest.raises(InputError, match="params_argnums"):
        step.as_("torch")
