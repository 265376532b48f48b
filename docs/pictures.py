"""Draw the pictures of the guides: `python docs/pictures.py sharding` or `join` writes `docs/_static/`.

`sharding` compiles a training step for eight devices of this machine's CPU. `join` needs a browser (Chromium, driven by
playwright) and the profile of a training step on an A100 of NVIDIA's JAX-Toolbox, in `../shared/oracles`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parent / "_static"
PROFILE = Path(__file__).resolve().parents[2] / "shared" / "oracles" / "a100_step"
LAYERS, BATCH, LENGTH, WIDTH, WORDS = 2, 8, 64, 128, 1024


def sharding() -> None:
    """Draw what one device sends and what the devices repeat, by layer, of a transformer on `data=2, tensor=4`."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import matplotlib.pyplot as plt

    found = step()
    sent = found.communication(depth=2)
    layers = ["embed", *(f"layer_{i}/{part}" for i in range(LAYERS) for part in ("attention", "mlp")), "head"]
    kinds = sorted({(x.opcode, x.axes, x.direction) for x in sent if x.scope in layers})
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.2), layout="constrained", sharey=True, width_ratios=(3, 2)
    )
    start = dict.fromkeys(layers, 0.0)
    for colour, (opcode, axes, direction) in zip(plt.get_cmap("tab20").colors, kinds, strict=False):
        widths = [
            sum(x.sent for x in sent if (x.scope, x.opcode, x.axes, x.direction) == (layer, opcode, axes, direction))
            / 2**10
            for layer in layers
        ]
        label = f"{opcode} over {', '.join(axes)}, {direction}"
        left.barh(layers, widths, left=[start[layer] for layer in layers], color=colour, label=label)
        start = {layer: start[layer] + width for layer, width in zip(layers, widths, strict=True)}
    left.set_xlabel("KiB that one device sends in a step")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize="small")
    work = {layer: [0, 0] for layer in layers}
    for x in found.replication.layers:
        layer = next((name for name in layers if x.scope == name or x.scope.startswith(f"{name}/")), "")
        if layer:
            work[layer][0] += int(x.program)
            work[layer][1] += int(x.executed)
    bars = right.barh(layers, [executed / program for program, executed in work.values()], color="#1f77b4")
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.axvline(1, color="#888888", linewidth=1)
    right.set_xlabel("work of all 8 devices / work of the program")
    right.margins(x=0.15)
    left.invert_yaxis()
    figure.suptitle("A training step of a transformer on data=2, tensor=4; nobody sharded embedding and head")
    figure.savefig(STATIC / "sharding.png", dpi=110)


def step() -> Any:
    """Return the comparison of the step: Megatron's sharding of the layers, and none of the embedding and the head."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    import costax

    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)

    def array(shape: tuple[int, ...], *spec: str | None, dtype: str = "float32") -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))

    def loss(weights: Any, tokens: Any) -> Any:
        with jax.named_scope("embed"):
            x = weights["embed"][tokens]
        for i, layer in enumerate(weights["layers"]):
            with jax.named_scope(f"layer_{i}"), jax.named_scope("attention"):
                q, k, v = (x @ w for w in layer["qkv"])
                q, k, v = (a.reshape(BATCH, LENGTH, 4, -1) for a in (q, k, v))
                scores = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
                mixed = jnp.einsum("bhqk,bkhd->bqhd", scores, v)
                x = x + mixed.reshape(BATCH, LENGTH, -1) @ layer["out"]
            with jax.named_scope(f"layer_{i}"), jax.named_scope("mlp"):
                x = x + jax.nn.gelu(x @ layer["up"]) @ layer["down"]
        with jax.named_scope("head"):
            return -jax.nn.log_softmax(x @ weights["head"]).mean()

    def update(weights: Any, tokens: Any) -> Any:
        gradients = jax.grad(loss)(weights, tokens)
        with jax.named_scope("update"):
            return jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradients)

    def columns(width: int) -> Any:
        return array((WIDTH, width), None, "tensor")

    def rows(width: int) -> Any:
        return array((width, WIDTH), "tensor")

    layer = {
        "qkv": [columns(WIDTH) for _ in range(3)],
        "out": rows(WIDTH),
        "up": columns(4 * WIDTH),
        "down": rows(4 * WIDTH),
    }
    weights = {"embed": array((WORDS, WIDTH)), "layers": [layer] * LAYERS, "head": array((WIDTH, WORDS))}
    jitted = jax.jit(update, out_shardings=jax.tree.map(lambda x: x.sharding, weights))
    return costax.compare(jitted)(weights, array((BATCH, LENGTH), "data", dtype="int32"))


def join() -> None:
    """Take a picture of the page that `costax join --save step.html` writes of the step on an A100."""
    from playwright.sync_api import sync_playwright

    import costax

    module, trace = PROFILE / "after_optimizations.hlo.pb.xz", PROFILE / "kernel_times.csv"
    joined = costax.join(module, trace, device="a100-sxm-40", step=127.465e-3)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page = Path(folder) / "step.html"
        joined.save(page)
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = opened.new_page(viewport={"width": 1240, "height": 860})
        tab.goto(page.as_uri())
        tab.wait_for_timeout(3000)
        tab.screenshot(path=str(STATIC / "join-a100.png"))
        opened.close()


if __name__ == "__main__":
    for picture in sys.argv[1:] or ("sharding", "join"):
        {"sharding": sharding, "join": join}[picture]()
