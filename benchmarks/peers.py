"""What the counters of other libraries print for torchvision's models, as JSON: the figures of docs/comparison.md.

    nox -s peers > benchmarks/peers.json

It needs torch, torchvision and the tools themselves, and no costax: the docs set costax beside what it prints.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from importlib.metadata import version

import torch
import torchvision

MODELS = {
    "resnet18": (1, 3, 224, 224),
    "resnet50": (1, 3, 224, 224),
    "mobilenet_v2": (1, 3, 224, 224),
    "vit_b_16": (1, 3, 224, 224),
}
PACKAGES = ("torch", "torchvision", "fvcore", "thop", "ptflops", "torchinfo", "calflops", "deepspeed")


def torch_counter(model: torch.nn.Module, shape: tuple[int, ...]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(shape))
    return counter.get_total_flops()


def torch_training(model: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Forward and backward, in evaluation mode."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(shape)).sum().backward()
    return counter.get_total_flops()


def fvcore(model: torch.nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    from fvcore.nn import FlopCountAnalysis

    found = (
        FlopCountAnalysis(model, torch.zeros(shape)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    )
    return {"total": found.total(), **found.by_operator()}


def thop(model: torch.nn.Module, shape: tuple[int, ...]) -> float:
    from thop import profile

    return profile(model, inputs=(torch.zeros(shape),), verbose=False)[0]


def ptflops(model: torch.nn.Module, shape: tuple[int, ...]) -> dict[str, float | None]:
    from ptflops import get_model_complexity_info

    return {
        backend: get_model_complexity_info(
            model, shape[1:], as_strings=False, print_per_layer_stat=False, verbose=False, backend=backend
        )[0]
        for backend in ("pytorch", "aten")
    }


def torchinfo(model: torch.nn.Module, shape: tuple[int, ...]) -> int:
    from torchinfo import summary

    return summary(model, input_size=shape, verbose=0).total_mult_adds


def calflops(model: torch.nn.Module, shape: tuple[int, ...]) -> list[float]:
    from calflops import calculate_flops

    return list(calculate_flops(model, input_shape=shape, output_as_string=False, print_results=False)[:2])


def deepspeed(model: torch.nn.Module, shape: tuple[int, ...]) -> list[float]:
    from deepspeed.profiling.flops_profiler import get_model_profile

    return list(get_model_profile(model, input_shape=shape, print_profile=False, as_string=False)[:2])


TOOLS = (torch_counter, torch_training, fvcore, thop, ptflops, torchinfo, calflops, deepspeed)


def main() -> None:
    """Print the figures of every tool for every model; a tool that fails says how."""
    warnings.simplefilter("ignore")
    figures: dict[str, dict[str, object]] = {}
    for name, shape in MODELS.items():
        figures[name] = {}
        for tool in TOOLS:
            # Each tool gets a model of its own: some leave hooks and buffers behind.
            model = torchvision.models.get_model(name).eval()
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    figures[name][tool.__name__] = tool(model, shape)
                except Exception as error:  # what a peer raises is its answer
                    figures[name][tool.__name__] = f"{type(error).__name__}: {error}"[:200]
    versions = {package: _version(package) for package in PACKAGES}
    print(json.dumps({"versions": versions, "figures": figures}, indent=1))


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
