"""Every primitive that the installed jax can lower has a rule."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import costax
from costax.rules.examples import cases

# Leaf rules without a worked example, by the reason. An example is a function of arrays that one CPU device lowers, so
# these cannot have one. The list may only become shorter: a new rule needs an example.
WITHOUT_EXAMPLE = {
    "an exchange between devices: an example has one device; see tests/rules/test_collectives.py": {
        "all_gather",
        "all_gather_invariant",
        "all_gather_reduced",
        "all_gather_reduced_start",
        "all_gather_start",
        "all_to_all",
        "all_to_all_start",
        "pbroadcast",
        "pbroadcast_dynamic",
        "pbroadcast_start",
        "pgather",
        "pmax",
        "pmin",
        "ppermute",
        "ppermute_start",
        "psend",
        "psum",
        "psum_invariant",
        "psum_invariant_start",
        "psum_start",
        "ragged_all_to_all",
        "reduce_scatter",
        "reduce_scatter_start",
        "unreduced_pmax",
        "unreduced_pmin",
        "unreduced_psum",
        "unreduced_psum_start",
        "unreduced_reduce_scatter",
        "unreduced_reduce_scatter_start",
    },
    "a primitive of Pallas kernels, which exists in a kernel alone; see tests/rules/test_pallas.py": {
        "dma_start",
        "reciprocal",
    },
    "lowered for GPUs alone; see tests/rules/test_attention.py and tests/rules/test_contractions.py": {
        "dot_product_attention_bwd",
        "dot_product_attention_bwd_wrapper",
        "dot_product_attention_fp8_bwd",
        "dot_product_attention_fp8_bwd_wrapper",
        "dot_product_attention_fp8_fwd",
        "dot_product_attention_fp8_fwd_wrapper",
        "dot_product_attention_fwd",
        "dot_product_attention_fwd_wrapper",
        "rnn_bwd",
        "rnn_fwd",
        "scaled_matmul",
        "scaled_matmul_wrapper",
    },
    "lowered for GPUs alone; see tests/rules/test_sparse.py": {
        "coo_spmm",
        "coo_spmv",
        "csr_spmm",
        "csr_spmv",
        "sparse_dense_matmul",
    },
    "only in older versions of jax; see tests/rules/test_sparse.py": {"sparse_pack_nm"},
    "a solver outside of the program, whose work depends on data; see tests/rules/test_sparse.py": {"spsolve"},
    "an update of a mutable array, which no function of arrays shows": {"addupdate"},
    "a call of the user's code, which nobody can count": {"buffer_callback", "ffi_call"},
    "public functions bind it only together with other primitives, as jax.scipy.linalg.qr_multiply": {"geqp3", "ormqr"},
}

# Run in a process of its own, for it imports all of jax.
ENUMERATE = r"""
import importlib, json, pkgutil, re, sys
import jax
from costax import _jax

KERNEL_DIALECTS = r"jax\.(_src|experimental)\.(pallas\.(mosaic|mosaic_gpu|triton)|mosaic|tpu_custom_call)\b.*"

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
    return not all(re.fullmatch(KERNEL_DIALECTS, home) for home in known)

print(json.dumps(sorted({p.name for p in _jax.lowered_primitives() if outside(p)})))
"""


@pytest.fixture(scope="module")
def live() -> list[str]:
    """Names of the primitives with an MLIR lowering, outside the kernel dialects."""
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
        "bcoo_dot_general",
    }
    assert corners <= set(live)
    assert len(live) > 250


def test_the_script_of_live_primitives_keeps_the_names_of_other_versions():
    script = runpy.run_path(str(Path(__file__).parents[1] / "data" / "live_primitives.py"))
    recorded = {"0.8.2": ["a"], "0.10.2": ["b"]}
    assert list(script["merged"](recorded, "0.9.1", ["d", "c"]).items()) == [
        ("0.8.2", ["a"]),
        ("0.9.1", ["c", "d"]),
        ("0.10.2", ["b"]),
    ]
    assert script["merged"](recorded, "0.10.2", ["c"])["0.10.2"] == ["c"]


def test_every_rule_says_its_law_in_a_sentence_and_how_xla_counts():
    silent = [name for name, rule in costax.rules().items() if "XLA:" not in rule.law]
    assert not silent
    sentences = {name: rule.law.splitlines()[0] for name, rule in costax.rules().items()}
    assert not [name for name, sentence in sentences.items() if len(sentence) < 20]


def test_what_is_free_has_a_reason():
    assert all(len(rule.free) > 20 for rule in costax.rules().values() if rule.free)


def test_every_leaf_rule_that_counts_something_has_a_worked_example(live):
    shown = {case.primitive for case in cases()}
    # A free rule has a reason instead. A primitive of another jax has its example there.
    counting = {name for name, rule in costax.rules().items() if not rule.higher_order and not rule.free}
    excused = set().union(*WITHOUT_EXAMPLE.values())
    missing = sorted((counting & set(live)) - shown - excused)
    assert missing == [], "write an example in src/costax/rules/examples/"
    # The list is not longer than it must be: each name is a rule that counts something and has no example.
    assert sorted(excused & shown) == []
    assert sorted(excused - counting) == []
    assert len(excused) <= 55
