"""Fit the models of kernels to the measured tables, and write the data files of `costax.performance.efficiency`.

    python benchmarks/efficiency.py              # half an hour; needs ../shared/oracles
    python benchmarks/efficiency.py attention    # this part alone

Of the products two thirds go into the data files: every third pair (n, k) is left out, with all of its m, on every
GPU. Of the collectives every other size is left out. `benchmarks/accuracy.py` tries the models on what is left out.
Source of the tables: PyPI aiconfigurator-core 0.12.0 (Apache-2.0).
"""

from __future__ import annotations

import csv
import json
import sys
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

import costax
from costax.performance.attention_time import has_warp_groups
from costax.performance.efficiency import attention, products
from costax.performance.efficiency.attention import Heads
from costax.performance.efficiency.products import Hardware

ROOT = Path(__file__).resolve().parents[1]
ORACLES = ROOT.parent / "shared" / "oracles"
DATA = ROOT / "src" / "costax" / "performance" / "efficiency"
SOURCE = "PyPI aiconfigurator-core 0.12.0 (Apache-2.0), newest TensorRT-LLM and NCCL table of each system"
GPUS = ("a100-sxm-80", "h100-sxm", "h200-sxm", "b200", "gb200", "l40s")
UNITS = {"bf16": "bfloat16", "fp8": "fp8"}
# What device files may lack: multiprocessors. Source: NVIDIA's data sheets.
MULTIPROCESSORS = {"a100-sxm-80": 108, "h100-sxm": 132, "h200-sxm": 132, "b200": 148, "gb200": 152, "l40s": 142}
# TFLOP/s of products of n x n in bfloat16 on a device of jax. Source: Google, tpu-recipes, microbenchmarks.
TPU_PRODUCTS = {
    "tpu-v7x": {
        **{128: 2.590, 256: 18.286, 512: 105.08, 1024: 349.73, 2048: 679.28, 4096: 892.94},
        **{16384: 950.13, 32768: 956.38},
    },
    "tpu-v6e": {8192: 827.5},
}
# Where the fit starts, and the bounds of each constant.
START = (0.85, 0.03, 2e-6, 0.8e-6, 0.8, 0.017, 2.3, 0.1, 4, 4, 1.5e-6)
LEAST = np.array((0.3, 0, 0.3e-6, 0, 0.4, 0.004, 0.8, 0.005, 0.5, 1, 0))
MOST = np.array((1.1, 1, 20e-6, 15e-6, 1.05, 0.08, 8, 3, 8, 12, 20e-6))


def rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a table of the oracles."""
    with (ORACLES / name).open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def measured_products(device: str, unit: str):
    """Return (m, n, k, seconds) of every measured product of a device."""
    found = [x for x in rows("gemm.csv") if x["device"] == device and x["dtype"] == UNITS[unit]]
    return np.array([[float(x["m"]), float(x["n"]), float(x["k"]), float(x["milliseconds"]) * 1e-3] for x in found])


def in_data_file(table):
    """Return which products go into the data file: two thirds of the pairs (n, k)."""
    return np.array([zlib.crc32(f"{int(n)},{int(k)}".encode()) % 3 != 0 for _, n, k, _ in table])


def hardware(device: str, unit: str) -> Hardware:
    known = costax.device(device)
    reference, cache = known.peaks["bf16"].value, known.on_chip["l2"].value
    return Hardware(known.peaks[unit].value, reference, known.bandwidth.value, cache, MULTIPROCESSORS[device])


def kept_in_cache(device: str, table):
    """Return which products of the L40S found their weights in its L2 cache.

    The measuring program goes through as many copies of the weights as the cache holds, and one more. Where a whole
    number of copies fills the cache, they stay in it, which no program can rely on: these rows are not fitted to. Small
    weights stay in any cache, and count.
    """
    weights, cache = 2 * table[:, 1] * table[:, 2], costax.device(device).on_chip["l2"].value
    full = np.ceil(cache / weights) * weights < 1.05 * cache
    return (device == "l40s") & full & (weights > 0.05 * cache)


def formula(values, table, hardware: Hardware, unit: str):
    m, n, k, _ = table.T
    return products.formula(values, np.ones(len(m)), m, n, k, hardware, (1.0 if unit == "fp8" else 2.0, 2.0))[0]


def error(predicted, measured) -> float:
    """Return the mean absolute error of the logarithm. Differences below three per cent are noise."""
    return float(np.sqrt(np.log(predicted / measured) ** 2 + 0.03**2).mean())


def least_error(time, measured, start, least, most, steps: int) -> tuple[float, ...]:
    """Return the constants between two bounds with the least error."""
    least, most = np.array(least), np.array(most)

    def bounded(free):
        return least + (most - least) / (1 + np.exp(-free))

    def error_of(free) -> float:
        return error(time(bounded(free)), measured)

    share = np.clip((np.array(start) - least) / (most - least), 0.01, 0.99)
    free = np.log(share / (1 - share))
    found = minimize(error_of, free, method="Nelder-Mead", options={"maxiter": steps, "adaptive": True})
    return tuple(float(f"{x:.4g}") for x in bounded(found.x))


def fitted(table, hardware: Hardware, unit: str) -> tuple[float, ...]:
    """Return the constants of products."""

    def time(values):
        return formula(values, table, hardware, unit)

    return least_error(time, table[:, 3], START, LEAST, MOST, 500)


def predicted(values, known, wanted, hardware: Hardware, unit: str):
    """Return the seconds of `wanted` by the formula and the correction from the rows of `known`."""
    left_over = np.log(known[:, 3] / formula(values, known, hardware, unit))
    return formula(values, wanted, hardware, unit) * np.exp(products.correction(wanted[:, :3], known, left_over))


def quantiles(ratios) -> tuple[float, float]:
    """Return measured over predicted of which nine in ten are above, and below."""
    return tuple(round(float(x), 3) for x in np.quantile(ratios, (0.1, 0.9)))


def transferred(by_device: dict[str, tuple[float, ...]]) -> tuple[float, ...]:
    """Return the constants of a device that was not measured: the median of those that were."""
    return tuple(float(f"{x:.4g}") for x in np.median(list(by_device.values()), axis=0))


def without(by_device: dict[str, tuple[float, ...]], left_out: str) -> tuple[float, ...]:
    """Return the constants that a measured device would get if it had no table."""
    others = transferred({name: x for name, x in by_device.items() if name != left_out})
    return products.on_device(others, costax.device(left_out).efficiency.get("bf16_matmul"))


def recorded_products(unit: str) -> dict[str, tuple[float, ...]]:
    """Return the constants of each measured device, as the data file has them."""
    devices = json.loads((DATA / "constants.json").read_text(encoding="utf-8"))["products"]["devices"]
    return {name: tuple(units[unit]["values"]) for name, units in devices.items() if unit in units}


def fit_products() -> dict[str, object]:
    devices: dict[str, dict[str, object]] = defaultdict(dict)
    transfer: dict[str, object] = {}
    for unit in UNITS:
        values: dict[str, tuple[float, ...]] = {}
        for device in GPUS:
            table = measured_products(device, unit)
            if not len(table):
                continue
            inside, known = in_data_file(table), hardware(device, unit)
            training = table[inside & ~kept_in_cache(device, table)]
            values[device] = fitted(training, known, unit)
            held = table[~inside]
            low, high = quantiles(held[:, 3] / predicted(values[device], training, held, known, unit))
            devices[device][unit] = {"values": values[device], "low": low, "high": high}
            print(device, unit, values[device], low, high, flush=True)
        ratios: list[float] = []
        for left_out in values:
            others = without(values, left_out)
            table = measured_products(left_out, unit)
            ratios += list(table[:, 3] / formula(others, table, hardware(left_out, unit), unit))
        low, high = quantiles(ratios)
        transfer[unit] = {"values": transferred(values), "low": low, "high": high, "devices": len(values)}
    needed = {name: {"multiprocessors": count} for name, count in MULTIPROCESSORS.items()}
    return {"devices": devices, "transfer": transfer, "hardware": needed}


def measured_attention(device: str, kind: str):
    """Return (sizes, seconds, which rows are fitted to) of every measured attention of a device."""
    found = [x for x in rows("attention.csv") if x["device"] == device and x["kind"] == kind]

    def column(name: str):
        return np.array([float(x[name]) for x in found])

    queries = column("isl")
    keys = queries if kind == "prefill" else column("step") + 1
    heads = column("num_heads"), column("num_key_value_heads"), column("head_dim")
    sizes = Heads(column("batch_size"), queries, keys, *heads)
    inside = np.array([zlib.crc32(repr(tuple(map(int, row))).encode()) % 3 != 0 for row in zip(*sizes, strict=True)])
    return sizes, column("milliseconds") * 1e-3, inside


ATTENTION = {
    "prefill": (
        attention.prefill,
        (0.6, 8e-6, 0.1, 0.6, 1.5, 1e-6, 0.8, 3),
        (0.1, 1e-6, 0, 0.2, 1, 0, 0.02, 1),
        (1.0, 20e-6, 2, 1.5, 8, 8e-6, 2, 8),
    ),
    "decode": (
        attention.decode,
        (0.85, 0.62, 8e-6, 1e-6, 2, 1e-6, 2e-6, 0.08e-6, 1.2e-6, 0.4, 2, 2, 0.3),
        (0.3, 0.3, 1e-6, 0, 1, 0, 0, 0, 0, 0.02, 1, 0.5, 0),
        (1.2, 1.2, 30e-6, 5e-6, 8, 6e-6, 8e-6, 1e-6, 6e-6, 2, 8, 8, 1),
    ),
}
"""The formula of each kind of attention, where its fit starts, and the bounds of its constants."""


NO_CACHE = (1.0, 1.0)
"""The last two constants of prefill where what lies in L2 is not faster."""
WORTHWHILE = 0.97
"""How far two constants more must bring down the error of the rows that they are fitted to, or they are not taken."""


def chosen(sizes: Heads, which) -> Heads:
    return Heads(*(x[which] for x in sizes))


def fitted_prefill(time, measured, start, least, most) -> tuple[float, ...]:
    """Return the constants of prefill: those of the L2 only where they explain what the others do not.

    A device whose attention is bound by arithmetic at every measured size does not tell how fast its L2 is; without
    this test the other constants drift with the two that are free.
    """
    few = len(start) - len(NO_CACHE)

    def without_cache(values):
        return time((*values, *NO_CACHE))

    simple = (*least_error(without_cache, measured, start[:few], least[:few], most[:few], 2000), *NO_CACHE)
    full = least_error(time, measured, (*simple[:few], *start[few:]), least, most, 2000)
    errors = [error(time(values), measured) for values in (simple, full)]
    print("prefill without and with the L2:", *(f"{x:.4f}" for x in errors), flush=True)
    return full if errors[1] < WORTHWHILE * errors[0] else simple


def fit_attention() -> dict[str, object]:
    kinds: dict[str, object] = {}
    for kind, (seconds, start, least, most) in ATTENTION.items():
        values: dict[str, tuple[float, ...]] = {}
        devices: dict[str, object] = {}
        for device in GPUS:
            sizes, measured, inside = measured_attention(device, kind)
            known, training = hardware(device, "bf16"), chosen(sizes, inside)

            def time(constants, training=training, known=known, seconds=seconds):
                return seconds(constants, training, known)

            if kind == "prefill":
                values[device] = fitted_prefill(time, measured[inside], start, least, most)
            else:
                values[device] = least_error(time, measured[inside], start, least, most, 2000)
            low, high = quantiles(measured[~inside] / seconds(values[device], chosen(sizes, ~inside), known))
            devices[device] = {"values": values[device], "low": low, "high": high}
            print(kind, device, values[device], low, high, flush=True)
        kinds[kind] = {"devices": devices, "transfer": transferred_attention(kind, values)}
    return kinds


def transferred_attention(kind: str, values: dict[str, tuple[float, ...]]) -> dict[str, object]:
    """Return the constants of devices without a table: those of devices whose kernels multiply in the same way."""
    transfer: dict[str, object] = {}
    for group in ("warps", "warp groups"):
        ours = {name: x for name, x in values.items() if has_warp_groups(costax.device(name)) == (group != "warps")}
        ratios: list[float] = []
        for left_out in ours:
            others = transferred({name: x for name, x in ours.items() if name != left_out})
            sizes, measured, _ = measured_attention(left_out, kind)
            ratios += list(measured / ATTENTION[kind][0](others, sizes, hardware(left_out, "bf16")))
        low, high = quantiles(ratios)
        transfer[group] = {"values": transferred(ours), "low": low, "high": high, "devices": len(ours)}
    return transfer


def write_products() -> None:
    lines: dict[tuple[str, int, int, int], dict[str, str]] = defaultdict(dict)
    for unit in UNITS:
        for device in GPUS:
            table = measured_products(device, unit)
            if not len(table):
                continue
            for m, n, k, seconds in table[in_data_file(table) & ~kept_in_cache(device, table)]:
                lines[unit, int(m), int(n), int(k)][device] = f"{seconds * 1e6:.4g}"
    with (DATA / "products.csv").open("w", encoding="utf-8", newline="") as text:
        text.write(f"# Microseconds of products (m, k) x (k, n). Source: {SOURCE}.\n")
        out = csv.writer(text, lineterminator="\n")
        out.writerow(["unit", "m", "n", "k", *GPUS])
        for key in sorted(lines):
            out.writerow([*key, *(lines[key].get(device, "") for device in GPUS)])


def write_collectives() -> None:
    """Write every other size of each collective."""
    curves: dict[tuple[str, str, int], list[tuple[int, float]]] = defaultdict(list)
    for x in rows("collectives.csv"):
        key = x["device"], x["operation"].replace("alltoall", "all_to_all").replace("_", "-"), int(x["gpus"])
        curves[key].append((2 * int(x["elements"]), float(x["milliseconds"]) * 1e3))
    sizes = sorted({size for curve in curves.values() for size, _ in curve})[::2]
    with (DATA / "collectives.csv").open("w", encoding="utf-8", newline="") as text:
        text.write(f"# Microseconds of collectives by bytes of the whole array. Source: {SOURCE}.\n")
        out = csv.writer(text, lineterminator="\n")
        out.writerow(["device", "kind", "members", *sizes])
        for key, curve in sorted(curves.items()):
            by_size = dict(curve)
            out.writerow([*key, *(f"{by_size[size]:.4g}" for size in sizes)])


def main() -> None:
    write_products()
    write_collectives()
    constants = json.loads((DATA / "constants.json").read_text(encoding="utf-8"))
    constants["source"] = SOURCE
    if "attention" not in sys.argv[1:]:
        constants["products"] = fit_products()
    if "products" not in sys.argv[1:]:
        constants["attention"] = fit_attention()
    (DATA / "constants.json").write_text(json.dumps(constants, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
