"""Compare published figures with the truth: some are right, others are a different quantity under the wrong name.

    python examples/published_numbers.py

Some web pages say that ResNet-18 has 11.7 billion FLOPs and ViT-B/16 81.9 billion. These are parameter counts times a
thousand. Other sources call MACs FLOPs, which gives half the number. In this example a FLOP is an add or a multiply of
a contraction, as these tools mean it; norms and activations add a little.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from alexnet import alexnet
from diffusion_unet import ddpm_unet
from gpt2 import gpt2_small
from llama import llama2_7b
from mamba import mamba_130m
from mobilenet import mobilenet_v2
from resnet import resnet18, resnet50
from vit import vit_b_16

import costax

MACS, FLOPS, PARAMS = "MACs", "FLOPs", "parameters"


class Claim(NamedTuple):
    """A published figure for a model: the value, the quantity, and the source."""

    model: Callable[[], object]
    value: float
    quantity: str
    source: str


CLAIMS = (
    Claim(resnet18, 11.7e9, FLOPS, "a page in circulation"),
    Claim(resnet18, 1.8e9, FLOPS, "He et al. 2015, table 1"),
    Claim(resnet18, 1.814e9, MACS, "torchvision"),
    Claim(resnet18, 11_689_512, PARAMS, "torchvision"),
    Claim(resnet50, 4.089e9, MACS, "torchvision"),
    Claim(resnet50, 25_557_032, PARAMS, "torchvision"),
    Claim(resnet50, 22.6e6, PARAMS, "pycls model zoo"),
    Claim(vit_b_16, 81.9e9, FLOPS, "a page in circulation"),
    Claim(vit_b_16, 17.564e9, MACS, "torchvision"),
    Claim(vit_b_16, 86_567_656, PARAMS, "torchvision"),
    Claim(mobilenet_v2, 0.301e9, MACS, "torchvision"),
    Claim(mobilenet_v2, 3_504_872, PARAMS, "torchvision"),
    Claim(alexnet, 727e6, FLOPS, "convnet-burden (FMA = 1)"),
    Claim(alexnet, 724_406_816, MACS, "MIT 6.5940, lecture 2"),
    Claim(alexnet, 60_965_224, PARAMS, "MIT 6.5940, with biases"),
    Claim(llama2_7b, 850.0e9, MACS, "calflops, 128 tokens"),
    Claim(llama2_7b, 1700.06e9, FLOPS, "calflops, 128 tokens"),
    Claim(llama2_7b, 6_738_415_616, PARAMS, "calflops"),
    Claim(gpt2_small, 117e6, PARAMS, "Radford et al. 2019"),
    Claim(ddpm_unet, 35.7e6, PARAMS, "Ho et al. 2020"),
    Claim(mamba_130m, 130e6, PARAMS, "Gu and Dao 2023"),
)


def truth(model: Callable[[], object]) -> dict[str, int]:
    """Count a model: MACs, FLOPs of the MACs, parameters."""
    made = model()
    target = made if isinstance(made, costax.Target) else costax.Target(*made)
    analysis = costax.analyze(target)()
    macs = analysis.total.macs
    return {MACS: macs, FLOPS: 2 * macs, PARAMS: analysis.params}


def verdict(claim: Claim, true: dict[str, int]) -> str:
    """Return whether a claim is right within 1 %, and if not, the other quantity that it is close to."""
    ratio = claim.value / true[claim.quantity]
    if abs(ratio - 1) < 0.01:
        return "right"
    for name, value in (("the MACs", true[MACS]), ("1000 x the parameters", 1000 * true[PARAMS])):
        if abs(claim.value / value - 1) < 0.06:
            return f"{ratio:.2f} x: {name}"
    return f"{ratio:.2f} x"


def lines(claims: tuple[Claim, ...] = CLAIMS) -> Iterator[str]:
    """Yield the lines of the table, model by model."""
    yield "Claims and the truth. A MAC is 2 FLOPs; 2.00 x is twice the truth."
    counted: dict[str, dict[str, int]] = {}
    for claim in claims:
        name = claim.model.__name__
        if name not in counted:
            true = counted[name] = truth(claim.model)
            yield f"\n{name}: {true[MACS]:,} MACs, {true[PARAMS]:,} parameters"
        unit, letter = (1e9, "G") if claim.value >= 1e9 else (1e6, "M")
        said = f"{claim.value / unit:,.2f} {letter} {claim.quantity}"
        yield f"  {said:<18} {claim.source:<25} {verdict(claim, counted[name])}"


if __name__ == "__main__":
    print("\n".join(lines()))
