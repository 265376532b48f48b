"""The sizes of published language models, as MaxText's configurations have them, and published runs of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from language_models import Layer, Model, dense, latent, local_and_global


def experts(layers: int, width: int, heads: int, kv: int, head: int, hidden: int, vocab: int, **moe: Any) -> Model:
    return dense(layers, width, heads, kv, head, hidden, vocab, **moe)


def _deepseek3(**more: Any) -> Model:
    return latent(3, 61, 7168, 128, 18432, 2048, 129280, experts=256, chosen=8, shared=2048, kv_rank=512, **more)


def _llama4(every: Layer) -> Model:
    return Model(202048, ((12, (*(replace(every, chunk=8192),) * 3, every)),))


def _gemma4(repetitions: int, local: Layer, **globally: Any) -> Model:
    every = replace(local, window=0, head=512, shared_kv=True, **globally)
    return Model(262144, ((repetitions, (*(local,) * 5, every)),))


MODELS: dict[str, Model] = {
    "llama2-7b": dense(32, 4096, 32, 32, 128, 11008, 32000),
    "llama2-13b": dense(40, 5120, 40, 40, 128, 13824, 32000),
    "llama2-70b": dense(80, 8192, 64, 8, 128, 28672, 32000),
    "llama3-8b": dense(32, 4096, 32, 8, 128, 14336, 128256),
    "llama3-70b": dense(80, 8192, 64, 8, 128, 28672, 128256),
    "llama3-405b": dense(126, 16384, 128, 8, 128, 53248, 128256),
    "llama4-17b-16e": _llama4(Layer(5120, 40, 8, 128, 8192, experts=16, chosen=1, shared=8192)),
    "mistral-7b": dense(32, 4096, 32, 8, 128, 14336, 32000),
    "mixtral-8x7b": experts(32, 4096, 32, 8, 128, 14336, 32000, experts=8, chosen=2),
    "mixtral-8x22b": experts(56, 6144, 48, 8, 128, 16384, 32768, experts=8, chosen=2),
    "gemma-2b": dense(18, 2048, 8, 1, 256, 16384, 256128),
    "gemma-7b": dense(28, 3072, 16, 16, 256, 24576, 256128),
    "gemma2-2b": local_and_global(dense(26, 2304, 8, 4, 256, 9216, 256128), 4096, 2),
    "gemma2-9b": local_and_global(dense(42, 3584, 16, 8, 256, 14336, 256128), 4096, 2),
    "gemma2-27b": local_and_global(dense(46, 4608, 32, 16, 128, 36864, 256128), 4096, 2),
    "gemma3-4b": local_and_global(dense(34, 2560, 8, 4, 256, 10240, 262144), 1024, 6),
    "gemma3-12b": local_and_global(dense(48, 3840, 16, 8, 256, 15360, 262144), 1024, 6),
    "gemma3-27b": local_and_global(dense(62, 5376, 32, 16, 128, 21504, 262144), 1024, 6),
    "gemma4-31b": _gemma4(10, Layer(5376, 32, 16, 256, 21504, window=1024), kv_heads=4),
    "gemma4-26b": _gemma4(5, Layer(2816, 16, 8, 256, 704, window=1024, experts=128, chosen=8, shared=2112), kv_heads=2),
    "gpt3-52k": dense(1, 16, 2, 2, 8, 64, 1024, gated=False),
    "gpt3-22b": dense(48, 6144, 24, 24, 256, 24576, 32768, gated=False),
    "gpt3-175b": dense(96, 12288, 96, 96, 128, 49152, 50304, gated=False),
    "gpt-oss-20b": local_and_global(experts(24, 2880, 64, 8, 64, 2880, 201088, experts=32, chosen=4), 128, 2),
    "gpt-oss-120b": local_and_global(experts(36, 2880, 64, 8, 64, 2880, 201088, experts=128, chosen=4), 128, 2),
    "deepseek2-16b": latent(1, 27, 2048, 16, 10944, 1408, 102400, experts=64, chosen=6, shared=2 * 1408, kv_rank=512),
    "deepseek2-236b": latent(
        1, 60, 5120, 128, 12288, 1536, 102400, experts=160, chosen=6, shared=2 * 1536, kv_rank=512, q_rank=1536
    ),
    "deepseek3-671b": _deepseek3(q_rank=1536),
    "kimi-k2-1t": latent(
        1, 61, 7168, 64, 18432, 2048, 163840, experts=384, chosen=8, shared=2048, kv_rank=512, q_rank=1536
    ),
    "qwen2.5-1.5b": dense(28, 1536, 12, 2, 128, 8960, 151936),
    "qwen2.5-7b": dense(28, 3584, 28, 4, 128, 18944, 152064),
    "qwen3-0.6b": dense(28, 1024, 16, 8, 128, 3072, 151936),
    "qwen3-14b": dense(40, 5120, 40, 8, 128, 17408, 151936),
    "qwen3-30b-a3b": experts(48, 2048, 32, 4, 128, 768, 151936, experts=128, chosen=8),
    "qwen3-235b-a22b": experts(94, 4096, 64, 4, 128, 1536, 151936, experts=128, chosen=8),
    "olmo3-32b": dense(64, 5120, 40, 8, 128, 27648, 100278),
    "envy-switch-base": experts(12, 1536, 12, 12, 128, 6144, 32768, experts=128, chosen=1),
}
"""The models by MaxText's names. Each pair of layers of a Gemma 2 is one layer in MaxText's configuration."""

RUNS = [
    ("Llama2-70B v6e-256", "llama2-70b", 4096, 402.274, 905.021, "maxtext:noncausal"),
    ("Llama3.1-8B v6e-256", "llama3-8b", 8192, 417.397, 7207.336, "maxtext:noncausal"),
    ("Llama3.1-8B v6e-8", "llama3-8b", 8192, 413.433, 7138.89, "maxtext:noncausal"),
    ("Llama3.1-70B v6e-256", "llama3-70b", 8192, 462.297, 960.248, "maxtext:noncausal"),
    ("Llama3.1-70B v6e-128", "llama3-70b", 8192, 453.5, 941.976, "maxtext:noncausal"),
    ("Llama3.1-405B 2xv6e-256", "llama3-405b", 8192, 392.454, 149.482, "maxtext:noncausal"),
    ("Llama3.1-405B v5p", "llama3-405b", 8192, 314.53, 124.618, "maxtext"),
    ("Mistral-7B v6e-8", "mistral-7b", 8192, 431.981, 7776.813, "maxtext:noncausal"),
    ("Mixtral-8x7B v6e", "mixtral-8x7b", 4096, 302.311, 3645.203, "maxtext:noncausal"),
    ("Mixtral-8x22B v6e", "mixtral-8x22b", 4096, 332.463, 1326.307, "maxtext:noncausal"),
    ("GPT3-175B v6e bf16", "gpt3-175b", 2048, 384.891, 357.58, "maxtext:noncausal"),
    ("GPT3-175B v6e fp8", "gpt3-175b", 2048, 464.261, 431.318, "maxtext:noncausal"),
    ("GPT3-175B v5p", "gpt3-175b", 2048, 397.246, 369.059, "maxtext:noncausal"),
    ("Gemma3-12B v6e-256", "gemma3-12b", 8192, 349.442, 4477.768, "neither"),
    ("DeepSeek3-671B v5p", "deepseek3-671b", 4096, 152.415, 542.108, "maxtext:noncausal"),
    ("DeepSeek-V3 7x-128 bf16", "deepseek3-671b", 4096, 607.53, 2425.75, "maxtext"),
    ("DeepSeek-V3 7x-256 fp8", "deepseek3-671b", 4096, 743.46, 2968.49, "maxtext"),
    ("Llama3.1-405B 7x bf16", "llama3-405b", 8192, 1261.4, 499.77, "maxtext"),
    ("Llama3.1-405B 7x fp8", "llama3-405b", 8192, 1927.15, 763.54, "maxtext"),
    ("Llama3.1-70B 7x-64 bf16", "llama3-70b", 8192, 1207.05, 2686.98, "maxtext"),
    ("Llama3.1-70B 7x-64 fp8", "llama3-70b", 8192, 1854.19, 4127.56, "maxtext"),
    ("Llama3.1-70B 7x-256 128k", "llama3-70b", 131072, 897.94, 963.03, "maxtext"),
    ("Qwen3-235B 7x bf16", "qwen3-235b-a22b", 4096, 629.79, 4245.89, "maxtext"),
    ("GPT-OSS-120B 7x-64", "gpt-oss-120b", 8192, 330.25, 9581.66, "neither"),
    ("Gemma4-31B 7x-64", "gemma4-31b", 8192, 1057.76, 5370.74, "maxtext"),
    ("Gemma4-26B 7x-64", "gemma4-26b", 4096, 592.31, 23655.73, "maxtext"),
    ("Llama3.1-70B B200 (a4)", "llama3-70b", 8192, 1507.142, 3130.521, "maxtext:noncausal"),
    ("Llama3.1-405B B200 (a4)", "llama3-405b", 8192, 1520.276, 579.059, "maxtext:noncausal"),
    ("Llama3.1-70B H200 (a3u)", "llama3-70b", 8192, 508.371, 1055.949, "maxtext:noncausal"),
    ('"Llama3.1-405B" H200 page', "llama3-405b", 8192, 508.371, 1055.949, "neither"),
]
"""Name, model, sequence length, TFLOP/s and tokens/s of a device as published, the convention of the FLOPs a token.

Source: the pages of AI-Hypercomputer's tpu-recipes, gpu-recipes and MaxText. The last page shows the log of the 70B.
"""
