"""Every primitive that the installed jax can lower has a rule."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import costax

# Run in a process of its own, for it imports all of jax.
ENUMERATE = r"""
import importlib, json, pkgutil, re, sys
import jax
from costax import _jax

KERNEL_DIALECTS = r"jax\.(_src|experimental)\.(pallas\.(mosaic|mosaic_gpu|triton)|mosaic|tpu_custom_call)\b.*"
SPARSE = r"jax\.experimental\.sparse\b.*|jax\._src\.sparse\b.*|.*sparse_nm"

for module in pkgutil.walk_packages(jax.__path__, "jax.", onerror=lambda name: None):
    if re.search(r"test|tools|jax2tf|mosaic\.gpu\.examples|jax_to_ir", module.name):
        continue
    try:
        importlib.import_module(module.name)
    except (ImportError, AttributeError, NotImplementedError, RuntimeError):
        pass  # needs a package or a device that is not here

homes = {}
for name, module in list(sys.modules.items()):
    if name.startswith("jax"):
        for value in list(vars(module).values()):
            if type(value).__module__.startswith("jax"):
                homes.setdefault(id(value), set()).add(name)

def outside(primitive):
    known = homes.get(id(primitive), {""})
    return not all(re.fullmatch(f"{KERNEL_DIALECTS}|{SPARSE}", home) for home in known)

print(json.dumps(sorted({p.name for p in _jax.lowered_primitives() if outside(p)})))
"""


@pytest.fixture(scope="module")
def live() -> list[str]:
    """Names of the primitives with an MLIR lowering, outside the kernel dialects and `jax.experimental.sparse`."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ENUMERATE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_every_live_primitive_has_a_rule(live):
    missing = [name for name in live if name not in costax.rules()]
    assert not missing, f"{len(missing)} of {len(live)} primitives have no rule: {', '.join(missing)}"


def test_the_enumeration_finds_primitives_of_every_corner_of_jax(live):
    corners = {
        "dot_general",
        "scan",
        "fft",
        "svd",
        "threefry2x32",
        "all_gather",
        "call_exported",
        "pallas_call",
        "ffi_call",
    }
    assert corners <= set(live)
    assert len(live) > 250


def test_every_rule_says_its_law_in_a_sentence_and_how_xla_counts():
    silent = [name for name, rule in costax.rules().items() if "XLA:" not in rule.law]
    assert not silent
    sentences = {name: rule.law.splitlines()[0] for name, rule in costax.rules().items()}
    assert not [name for name, sentence in sentences.items() if len(sentence) < 20]


def test_what_is_free_has_a_reason():
    assert all(len(rule.free) > 20 for rule in costax.rules().values() if rule.free)
