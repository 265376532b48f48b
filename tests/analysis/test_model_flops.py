"""Model FLOPs: the formulas of frameworks, from traced programs; expected are their own numbers and formulas."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import costax
from costax.analysis.other_tools.masks import Mask
from costax.analysis.other_tools.model_flops import FORMULAS
from costax.analysis.other_tools.transformer_reader import read_transformer
from costax.errors import InputError
from language_models import Layer, Model, dense, forward, local_and_global, parameters
from language_models import analysis as traced
from published_models import MODELS, RUNS

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "examples"))

analysis = cache(traced)
MAXTEXT = json.loads((ROOT / "tests" / "data" / "maxtext_flops.json").read_text())["values"]


@pytest.mark.parametrize("length", [2048, 8192])
@pytest.mark.parametrize("name", MODELS)
def test_maxtexts_number_of_a_step_is_three_times_that_of_our_forward_pass(name, length):
    figures = MAXTEXT[f"{name}@{length}"]
    forward = analysis(MODELS[name], length)
    assert 3 * forward.as_("maxtext") / 1e12 == pytest.approx(figures["tflops_per_sequence"], rel=1e-9)
    # Without the halving, attention alone counts twice.
    whole = figures["learnable"] + 2 * figures["attention"]
    assert 3 * forward.as_("maxtext:noncausal") / 1e12 == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("name", ["llama3-8b", "gemma3-4b", "mixtral-8x7b", "deepseek2-16b"])
def test_a_training_step_counts_what_three_forward_passes_count(name):
    step, forward = analysis(MODELS[name], 4096, batch=2, training=True), analysis(MODELS[name], 4096)
    for formula in FORMULAS:
        assert step.as_(formula) == 6 * forward.as_(formula), formula


@pytest.mark.parametrize(("run", "name", "length", "tflops", "tokens", "convention"), RUNS)
def test_a_published_run_counts_by_the_convention_that_is_named(run, name, length, tflops, tokens, convention):
    published = tflops * 1e12 / tokens
    forward = analysis(MODELS[name], length)
    near = {
        convention
        for convention in ("maxtext", "maxtext:noncausal")
        if 3 * forward.as_(convention) / length == pytest.approx(published, rel=2e-5)
    }
    assert near == ({convention} - {"neither"})


# The formulas as their sources have them, from sizes; b sequences of s tokens.

MODEL = dense(6, 512, 8, 2, 64, 1536, 32000)
EXPERTS = dense(6, 512, 8, 2, 64, 1536, 32000, experts=16, chosen=4)


def megatron(b, s, *, layers, width, projected, kv, ffn, active, vocab):
    """Megatron-LM, transformer_flops: grouped queries, SwiGLU, causal core attention, no router."""
    attention = 6 * (width * (projected + 2 * kv) + projected * width) * layers
    core = 6 * projected / 2 * 2 * layers
    return b * s * (6 * width * ffn * 3 * active * layers + attention + 6 * width * vocab) + b * s * s * core


def nemo(b, s, *, layers, width, groups, heads, ffn, active, vocab):
    """NeMo, llama3 and mixtral."""
    per_layer = 12 + 12 * groups / heads + 18 * active * ffn / width + 12 * s / width * 0.5
    return b * s * layers * width * width * (per_layer + 6 * vocab / (layers * width))


def levanter(s, *, width, ffn, layers, groups, heads, vocab, experts=1, active=1):
    """Levanter, lm_flops_per_token, for a gated network; times three."""
    head = width / heads
    mlp = 2 * 3 * width * ffn * active + (2 * width * experts if experts > 1 else 0)
    projections = 2 * width * (heads * head + 2 * groups * head) + 2 * width * width
    attention = (2 * s**2 * heads * head + 3 * s * s * heads + 2 * s * s * head * heads) / s
    return 3 * (layers * (mlp + projections + attention) + 2 * width * vocab)


@pytest.mark.parametrize(("model", "active", "experts"), [(MODEL, 1, 1), (EXPERTS, 4, 16)])
@pytest.mark.parametrize(("b", "s"), [(1, 256), (3, 1024)])
def test_formulas_from_sizes_are_those_from_the_program(model, active, experts, b, s):
    step = analysis(model, s, batch=b, training=True)
    sizes = {"layers": 6, "width": 512, "ffn": 1536, "vocab": 32000}
    assert step.as_("megatron:2025") == megatron(b, s, projected=512, kv=128, active=active, **sizes)
    assert step.as_("nemo") == nemo(b, s, groups=2, heads=8, active=active, **sizes)
    expected = b * s * levanter(s, groups=2, heads=8, experts=experts, active=active, **sizes)
    assert step.as_("levanter") == expected
    attention = 6 * (512 * (512 + 2 * 128) + 512 * 512)
    blocks = 6 * 3 * 512 * 1536 * experts + (6 * 512 * experts if experts > 1 else 0) + attention + 13 * 512
    total = blocks + 2 * 512 * 32000
    assert step.params == total
    assert step.as_("palm") == (6 * total + 12 * 6 * 512 * s) * b * s
    idle = 6 * 3 * 512 * 1536 * (experts - active)
    assert step.as_("torchtitan") == (6 * (total - 512 * 32000 - idle) + 6 * 6 * 8 * 128 * s) * b * s
    assert step.as_("llm.c") == (6 * total + 6 * 6 * 512 * s) * b * s
    assert step.as_("nanogpt") == step.as_("palm")  # no table of positions


@pytest.mark.parametrize("heads", [(4, 128), (16, 64), (8, 128)])
def test_nemo_and_levanter_take_width_over_heads_for_the_size_of_a_head(heads):
    count, size = heads
    step = analysis(dense(6, 512, count, 2, size, 1536, 32000), 256, training=True)
    sizes = {"layers": 6, "width": 512, "ffn": 1536, "vocab": 32000}
    assert step.as_("nemo") == nemo(1, 256, groups=2, heads=count, active=1, **sizes)
    assert step.as_("levanter") == 256 * levanter(256, groups=2, heads=count, **sizes)
    assert step.as_("megatron:2025") == megatron(1, 256, projected=count * size, kv=2 * size, active=1, **sizes)


def test_megatron_counts_latent_attention_with_its_norms():
    step = analysis(MODELS["deepseek3-671b"], 4096, training=True)
    h, n, q, kv, d, r, v = 7168, 128, 1536, 512, 128, 64, 128
    latents = q * (h + n * (d + r) + 1) + kv * (h + n * (d + v) + 1) + h * r + n * v * h
    dense_ffn, routed, shared = 18432 * 3 * 3, 2048 * 8 * 3 * 58, 2048 * 3 * 58
    linear = 6 * h * (dense_ffn + routed + shared) + 6 * 61 * latents + 6 * h * 129280
    core = 6 * (n * (d + r) / 2 + n * v / 2) * 61
    assert step.as_("megatron:2025") == 4096 * linear + 4096**2 * core
    norms = 6 * 61 * (q + kv) * 4096
    # NeMo's deepseekv3 has the same terms without the norms.
    assert step.as_("nemo") == step.as_("megatron:2025") - norms


def test_nemo_counts_windows_exactly_as_for_gpt_oss():
    forward = analysis(MODELS["gpt-oss-20b"], 4096)
    s, h, n, g, d, w = 4096, 2880, 64, 8, 64, 128
    seen = [s * (s + 1) / 2, w * (w + 1) / 2 + (s - w) * w]
    layers = sum(12 * (s * h * d * (n + 2 * g) + s * h * d * n + n * pairs * d * 2) for pairs in seen)
    moe = 24 * s * 4 * h * 2880 * 3
    assert 3 * forward.as_("nemo") == 6 * (layers + moe + s * h * 201088)


@pytest.mark.parametrize("dispatch", ["ragged", "every", "capacity"])
@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (16, 1), (4, 3)])
def test_experts_count_once_for_each_choice_however_the_program_dispatches(dispatch, experts, chosen):
    # The heads are as many as the experts: an axis of that extent alone makes no expert.
    model = dense(3, 256, experts, experts, 32, 512, 1000, experts=experts, chosen=chosen)
    layer = replace(model.groups[0][1][0], dispatch=dispatch)
    forward = analysis(Model(1000, ((3, (layer,)),)), 128)
    assert forward.as_("maxtext") == analysis(model, 128).as_("maxtext")
    rows = 3 * (256 * experts + chosen * 3 * 256 * 512 + 4 * 256 * experts * 32) + 256 * 1000
    assert forward.as_("maxtext") == 2 * 128 * rows + 3 * 2 * 128**2 * experts * 32


def test_gpt2_counts_as_nanogpt_and_llm_c_do():
    import gpt2

    step = costax.analyze(gpt2.gpt2_train_step())()
    parameters, b, s, layers, width = 124_439_808, 8, 1024, 12, 768
    assert step.as_("nanogpt") == (6 * (parameters - 1024 * 768) + 12 * layers * width * s) * b * s
    assert step.as_("llm.c") == (6 * parameters + 6 * layers * width * s) * b * s
    assert step.as_("palm") == step.as_("palm-mfu") == (6 * parameters + 12 * layers * width * s) * b * s
    # Tied: the table of tokens is multiplied, that of positions is not.
    assert step.as_("torchtitan") == (6 * (parameters - 1024 * 768) + 12 * layers * width * s) * b * s


def test_layers_one_after_the_other_count_what_a_scan_counts():
    import llama

    config = llama.LLAMA2_7B._replace(layers=4)
    params = jax.eval_shape(partial(llama.init, c=config), costax.spec("key<fry>[]"))
    unrolled = costax.analyze(partial(llama.forward, c=config), params_argnums=0)(params, costax.spec("i32[2,512]"))
    scanned = analysis(dense(4, 4096, 32, 32, 128, 11008, 32000), 512, batch=2)
    for formula in FORMULAS:
        assert unrolled.as_(formula) == scanned.as_(formula), formula


# Masks. A query sees the keys of its row.

T = 48
ROWS, COLUMNS = np.indices((T, T))
SEGMENTS = np.repeat(np.arange(4), [7, 20, 1, 20])
BATCHED = np.stack([SEGMENTS, np.repeat(np.arange(2), [24, 24])])


def i():
    return jnp.arange(T)[:, None]


def j():
    return jnp.arange(T)[None, :]


def attend(mask_scores, params, x):
    q, k, v = (jnp.einsum("bsw,wnd->bsnd", x, params[name]) for name in "qkv")
    weights = jax.nn.softmax(mask_scores(jnp.einsum("bqnd,bknd->bnqk", q, k)), axis=-1)
    return jnp.einsum("bnqk,bknd->bqnd", weights, v)


def mask_of(mask_scores):
    params = {name: costax.spec("f32[16,2,8]") for name in "qkv"}
    found = costax.analyze(partial(attend, mask_scores), params_argnums=0)(params, costax.spec(f"f32[2,{T},16]"))
    (attention,) = read_transformer(found).attentions
    return attention.mask


NEVER = -1e9
CAUSAL = {
    "tril": lambda s: jnp.where(jnp.tril(jnp.ones((T, T), bool)), s, NEVER),
    "negated": lambda s: jnp.where(jnp.triu(jnp.ones((T, T), bool), 1), NEVER, s),
    "added": lambda s: s + jnp.where(jnp.tri(T, dtype=bool), 0.0, NEVER),
    "arithmetic": lambda s: s + (1 - jnp.tril(jnp.ones((T, T)))) * NEVER,
    "constant": lambda s: jnp.where(np.tri(T, dtype=bool), s, NEVER),
    "less": lambda s: jnp.where(j() < i() + 1, s, NEVER),
    "soft cap": lambda s: jnp.where(i() >= j(), 50 * jnp.tanh(s / 50), NEVER),
    "slopes": lambda s: jnp.where(i() >= j(), s - 0.1 * (i() - j()), NEVER),
    "wide window": lambda s: jnp.where((i() >= j()) & (i() - j() < T), s, NEVER),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_mask_is_recognised_however_it_is_written(name):
    assert mask_of(CAUSAL[name]) == Mask(causal=True, masked=True)


@pytest.mark.parametrize("window", [1, 2, 9, T - 1])
def test_a_window_is_read_from_the_mask(window):
    both = mask_of(lambda s: jnp.where((i() >= j()) & (i() - j() < window), s, NEVER))
    twice = mask_of(lambda s: jnp.where(i() - j() < window, jnp.where(i() >= j(), s, NEVER), NEVER))
    band = mask_of(lambda s: jnp.where(jnp.triu(jnp.tril(jnp.ones((T, T), bool)), 1 - window), s, NEVER))
    assert both == twice == band == Mask(causal=True, window=window, masked=True)


@pytest.mark.parametrize("segments", [SEGMENTS, np.arange(T) // 16, np.arange(T) // 20, np.arange(T)])
def test_packed_sequences_are_read_from_a_mask_that_the_program_fixes(segments):
    own = segments[:, None] == segments[None, :]
    mask = mask_of(lambda s: jnp.where((i() >= j()) & own, s, NEVER))
    lengths = tuple(np.bincount(segments))
    assert mask.causal
    assert set(mask.sequences) == {lengths} or (max(lengths) == 1 and mask.window == 1)
    # The pairs that queries see, counted one by one; a causal sequence has half of its square and half of its length.
    pairs = np.count_nonzero(own & (ROWS >= COLUMNS))
    if mask.sequences:
        assert sum(length**2 for length in lengths) == 2 * pairs - T


def test_each_element_of_the_batch_has_its_own_sequences():
    own = (BATCHED[:, :, None] == BATCHED[:, None, :])[:, None]
    mask = mask_of(lambda s: jnp.where((i() >= j()) & own, s, NEVER))
    assert mask.sequences == ((7, 20, 1, 20), (24, 24))
    assert mask_of(lambda s: jnp.where(own, s, NEVER)) == replace(mask, causal=False)


def test_megatron_counts_the_sum_of_squares_of_packed_sequences():
    own = SEGMENTS[:, None] == SEGMENTS[None, :]
    params = {name: costax.spec("f32[16,2,8]") for name in "qkv"}
    masked = partial(attend, lambda s: jnp.where((i() >= j()) & own, s, NEVER))
    found = costax.analyze(masked, params_argnums=0)(params, costax.spec(f"f32[1,{T},16]"))
    squares = 7**2 + 20**2 + 1 + 20**2
    assert found.as_("megatron:2025") == 3 * 2 * T * 16 * 16 + 2 * squares * 16


def test_a_mask_of_data_is_noted_and_a_causal_part_of_it_is_seen():
    def padded(params, x, lengths):
        real = jnp.arange(T)[None, :] < lengths[:, None]
        mask = real[:, None, None] if params is None else (i() >= j()) & real[:, None, None]
        return attend(lambda s: jnp.where(mask, s, NEVER), WEIGHTS, x)

    WEIGHTS = {name: jnp.zeros((16, 2, 8)) for name in "qkv"}
    arguments = costax.spec(f"f32[2,{T},16]"), costax.spec("i32[2]")

    def notes(params):
        return costax.analyze(partial(padded, params), params_argnums=())(*arguments).explain_vs("maxtext").notes

    assert any("not known" in note for note in notes(None))
    assert not any("not known" in note for note in notes({}))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Mask()),
        ({"is_causal": True}, Mask(causal=True, masked=True)),
        ({"is_causal": True, "local_window_size": (9, 0)}, Mask(causal=True, window=10, masked=True)),
    ],
)
def test_jaxs_own_attention_is_attention(options, expected):
    def attention(params, x):
        q, k, v = (jnp.einsum("bsw,wnd->bsnd", x, params[name]) for name in "qkv")
        return jax.nn.dot_product_attention(q, k, v, **options)

    params = {name: costax.spec("f32[16,2,8]") for name in "qkv"}
    found = costax.analyze(attention, params_argnums=0)(params, costax.spec(f"f32[2,{T},16]"))
    (attention,) = read_transformer(found).attentions
    assert attention.mask == expected


@pytest.mark.parametrize("causal", [True, False])
def test_flaxs_attention_is_attention(causal):
    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, x, tokens):
            mask = nn.make_causal_mask(tokens) if causal else None
            return nn.MultiHeadDotProductAttention(2)(x, x, mask=mask)

    found = costax.analyze(Decoder())(costax.spec(f"f32[2,{T},16]"), costax.spec(f"i32[2,{T}]"))
    (attention,) = read_transformer(found).attentions
    assert attention.mask == (Mask(causal=True, masked=True) if causal else Mask())
    macs = 2 * 2 * T * T * 16
    whole = 2 * (4 * 2 * T * 16 * 16 + macs)
    assert found.as_("maxtext") == whole - macs  # halved in any case
    assert found.as_("nemo") == (whole - macs if causal else whole)
    noted = [note for note in found.explain_vs("maxtext").notes if "halves" in note]
    assert bool(noted) == (not causal)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_in_a_kernel_counts_every_query_with_every_key(causal):
    flash = pytest.importorskip("jax.experimental.pallas.ops.tpu.flash_attention")

    def attention(params, x):
        q, k, v = (jnp.einsum("bsw,wnd->bnsd", x, params[name]) for name in "qkv")
        return flash.flash_attention(q, k, v, causal=causal)

    params = {name: costax.spec("f32[16,2,128]") for name in "qkv"}
    x = costax.spec("f32[2,1024,16]")
    found = costax.analyze(attention, params_argnums=0)(params, x)
    step = costax.analyze(jax.value_and_grad(lambda p, x: attention(p, x).sum()), params_argnums=0)(params, x)
    projections, products = 3 * 2 * 1024 * 16 * 256, 2 * 2 * 2 * 1024**2 * 128
    for formula, share in {"maxtext": 1, "megatron:2025": 1, "maxtext:noncausal": 2}.items():
        assert found.as_(formula) == 2 * projections + share * products
        assert step.as_(formula) == 3 * found.as_(formula)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", ["mixtral-8x7b", "gemma3-4b", "deepseek2-16b"])
def test_the_reasons_lead_from_our_number_to_the_formulas(formula, name):
    found = analysis(MODELS[name], 2048, training=True).explain_vs(formula)
    assert found.ours + sum(reason.count for reason in found.reasons) == found.count
    assert isinstance(found.count, int)
    assert json.loads(found.to_json())["count"] == found.count


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_needs_to_know_the_parameters(formula):
    with pytest.raises(InputError, match="params_argnums"):
        costax.analyze(jnp.matmul)(costax.spec("f32[4,8]"), costax.spec("f32[8,3]")).as_(formula)


@pytest.mark.parametrize("model", [MODEL, EXPERTS, local_and_global(MODEL, 100, 3)])
def test_symbols_give_formulas_of_formulas(model):
    function = partial(forward, model=model)
    symbolic = costax.analyze(function, params_argnums=0)(parameters(model), costax.spec("i32[b,s]"))
    for formula in FORMULAS:
        number = symbolic.as_(formula)
        for b, s in [(1, 128), (3, 256), (2, 333)]:
            assert number(b=b, s=s) == analysis(model, s, batch=b).as_(formula), formula


def test_a_program_without_attention_says_so():
    found = costax.analyze(lambda w, x: x @ w, params_argnums=0)(costax.spec("f32[8,3]"), costax.spec("f32[4,8]"))
    answer = found.explain_vs("maxtext")
    assert answer.count == 2 * 4 * 8 * 3
    assert any("No attention" in note for note in answer.notes)
    assert any("No attention" in line for line in str(answer).splitlines())


def test_windows_and_global_layers_are_told_apart():
    model = local_and_global(dense(5, 256, 4, 2, 64, 512, 1000), 32, 2)
    forward = analysis(model, 128)
    linear = 5 * (256 * 256 + 2 * 256 * 128 + 256 * 256 + 3 * 256 * 512) + 256 * 1000
    pairs = 2 * 128 * 128 / 2 + 3 * (128 * 32 - 32 * 32 / 2)
    assert forward.as_("maxtext") == 2 * 128 * linear + 4 * pairs * 256
    bidirectional = Model(1000, ((5, (replace(Layer(256, 4, 2, 64, 512), causal=False),)),))
    assert analysis(bidirectional, 128).as_("nemo") == 2 * 128 * linear + 4 * 5 * 128 * 128 * 256
