"""The example programs with symbols for their sizes."""

from __future__ import annotations

from importlib import import_module

import costax
from costax import _jax
from costax._jax import pytrees
from costax.program.trace import Target

# file, name, specs of the arguments (None: as it is), the range that each symbol is drawn from
EXAMPLES = [
    ("alexnet", "alexnet", ["f32[b,227,227,3]"], {"b": (2, 99)}),
    ("diffusion_unet", "ddpm_unet", ["f32[3,8*h,8*w]", None], {"h": (2, 9), "w": (2, 9)}),
    ("first_conv", "first_conv", [None, "f32[b,h,w,3]"], {"b": (2, 9), "h": (2, 99), "w": (2, 99)}),
    ("first_conv", "first_conv_gradient", [None, "f32[b,h,w,3]"], {"b": (2, 9), "h": (2, 99), "w": (2, 99)}),
    ("gpt2", "gpt2_small", ["i32[b,s]"], {"b": (2, 99), "s": (2, 1024)}),
    ("gpt2", "gpt2_train_step", [None, None, "i32[b,s+1]"], {"b": (2, 99), "s": (2, 1023)}),
    ("llama", "llama2_7b", [None, "i32[b,s]"], {"b": (2, 99), "s": (2, 4096)}),
    ("llama", "llama3_405b_train_step", [None, None, "i32[b,s+1]"], {"b": (2, 99), "s": (2, 8192)}),
    ("lstm", "lstm_language_model", ["i32[t,b]"], {"t": (2, 99), "b": (2, 99)}),
    ("lstm", "lstm_train_step", [None, None, "i32[t+1,b]"], {"t": (2, 99), "b": (2, 99)}),
    ("mamba", "mamba_130m", ["i32[b,64]"], {"b": (2, 99)}),
    ("mlp_train", "mlp_forward", [None, "f32[b,784]"], {"b": (2, 999)}),
    ("mlp_train", "mlp_train_step", [None, None, "f32[b,784]", "i32[b]"], {"b": (2, 999)}),
    ("mobilenet", "mobilenet_v2", ["f32[b,h,w,3]"], {"b": (2, 99), "h": (32, 300), "w": (32, 300)}),
    ("moe", "moe_layer", [None, "bf16[t,4096]"], {"t": (2, 4096)}),
    ("moe", "moe_layer_dense", [None, "bf16[t,4096]"], {"t": (2, 4096)}),
    ("resnet", "resnet18", ["f32[b,h,w,3]"], {"b": (2, 99), "h": (2, 300), "w": (2, 300)}),
    ("resnet", "resnet50_train_step", [None, None, None, "f32[b,224,224,3]", "i32[b]"], {"b": (2, 99)}),
    ("vit", "vit_b_16", ["f32[b,224,224,3]"], {"b": (2, 99)}),
]


def symbolic(module, name, specs):
    target = getattr(import_module(module), name)()
    if not isinstance(target, Target):
        target = Target(target[0], tuple(target[1]))
    args = [given if text is None else costax.spec(text) for given, text in zip(target.args, specs, strict=True)]
    return Target(target.fn, tuple(args), target.kwargs, target.params_argnums)


def at(target, point):
    leaves, tree = pytrees.flatten(target.args)
    args = pytrees.unflatten(tree, [_jax.dimensions_at(leaf, point) for leaf in leaves])
    return costax.analyze(Target(target.fn, args, target.kwargs, target.params_argnums))()
