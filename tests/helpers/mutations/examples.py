"""Programs to mutate: functions of examples/, with small sizes."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

import costax
from mutations.sources import linen, source

_EXAMPLES = Path(__file__).parents[3] / "examples"


@functools.cache
def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mutated_{name}", _EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _small_llama(*, scan: bool) -> Any:
    llama = _example("llama")
    config = llama.Config(2, 16, 4, 2, 24, 32, 1e4, scan=scan)
    params = jax.eval_shape(functools.partial(llama.init, c=config), costax.spec("key<fry>[]"))
    return llama, config, params


@source("examples/llama_block", needs="optax")
def _llama_block():
    llama, config, params = _small_llama(scan=False)
    return lambda x, layer: llama.block(x, layer, config), ("bf16[2,6,16]", params["layers"][0])


@source("examples/llama_scanned", needs="optax")
def _llama_scanned():
    llama, config, params = _small_llama(scan=True)
    return lambda params, tokens: llama.forward(params, tokens, config), (params, "i32[2,6]")


@source("examples/moe_dense")
def _moe_dense():
    weights = {"router": "f32[12,8]", "gate": "f32[8,12,16]", "up": "f32[8,12,16]", "down": "f32[8,16,12]"}
    return _example("moe").dense, (weights, "f32[10,12]")


@source("examples/moe_route")
def _moe_route():
    return lambda router, x: _example("moe").route({"router": router}, x), ("f32[12,8]", "f32[10,12]")


@source("examples/mlp", needs="optax")
def _mlp():
    params = [
        {"w": "f32[12,16]", "b": "f32[16]"},
        {"w": "f32[16,16]", "b": "f32[16]"},
        {"w": "f32[16,4]", "b": "f32[4]"},
    ]
    return _example("mlp_train").mlp, (params, "f32[8,12]")


@source("examples/selective_scan", needs="flax")
def _selective_scan():
    return _example("mamba").selective_scan, ("f32[2,8,6,4]", "f32[2,8,6,4]")


@source("examples/mamba_block", needs="flax")
def _mamba_block():
    from flax import nnx

    model = nnx.eval_shape(lambda: _example("mamba").MambaBlock(16, 4, nnx.Rngs(0)))
    graph, state = nnx.split(model)
    return lambda state, x: nnx.merge(graph, state)(x), (state, "f32[2,4,16]")


@source("examples/vit", needs="flax")
def _vit():
    from flax import nnx

    sizes = {"image": 8, "patch": 4, "width": 16, "depth": 1, "heads": 2, "hidden": 24, "classes": 5}
    model = nnx.eval_shape(lambda: _example("vit").VisionTransformer(**sizes, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    return lambda state, images: nnx.merge(graph, state)(images), (state, "f32[2,8,8,3]")


@source("examples/gpt2_block", needs="flax optax")
def _gpt2_block():
    return linen(_example("gpt2").Block(2), "f32[2,6,16]")


@source("examples/resnet_block", needs="flax optax")
def _resnet_block():
    return linen(_example("resnet").BasicBlock(8, 2), "f32[2,8,8,4]", train=False)


@source("examples/conv")
def _conv():
    return lambda x, k: _example("conv").conv(x, k, "conv", 2), ("f32[1,8,8,4]", "f32[3,3,2,6]")


@source("examples/local_response_norm", needs="haiku")
def _local_response_norm():
    return _example("alexnet").local_response_norm, ("f32[1,4,4,8]",)


@source("examples/scaling_law")
def _scaling_law():
    stack = {"qkv": "f32[2,16,48]", "out": "f32[2,16,16]", "up": "f32[2,16,64]", "down": "f32[2,64,16]"}
    law = _example("scaling_law")
    return lambda params, tokens: law.loss(params, tokens, 2), ({"embed": "f32[24,16]", "layers": stack}, "i32[2,6]")
