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
