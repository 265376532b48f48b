"""Modules that were compiled for another kind of machine than the device of the prediction."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import costax
from costax import _jax
from costax.analysis.compiled_module import analyze_file
from costax.hlo.backend import backend_of
from costax.hlo.files import read_text
from costax.report import plain_text
from costax.report.prediction import to_record

ORACLE = Path(__file__).resolve().parents[3] / "shared/oracles/a100_step/after_optimizations.hlo.pb.xz"
ENTRY = "HloModule m, is_scheduled=true\nENTRY e {{\n  p = f32[8,8]{} parameter(0)\n  ROOT r = f32[8,8]{} {}\n}}\n"
CALL = 'custom-call(p), custom_call_target="{}"'
SHAPE = jax.ShapeDtypeStruct((64, 64), "bfloat16")


@pytest.fixture(scope="module")
def lowered():
    return jax.jit(lambda x: jnp.tanh(x @ x)).lower(SHAPE)


def test_a_module_for_the_cpu_says_so_on_a_gpu_and_a_tpu(lowered, tmp_path):
    compiled = lowered.compile()
    name = tmp_path / "module_0001.jit_f.cpu_after_optimizations.hlo.pb"
    name.write_bytes(_jax.hlo_of(compiled))
    for module in (costax.analyze(compiled)(), analyze_file(name)):
        assert module.compiled_for == "cpu"
        for device, machine in (("h100-sxm", "a GPU"), ("v5e", "a TPU")):
            predicted = costax.predict(module, device)
            says = f"The module was compiled for the CPU; XLA for {machine} makes other fusions and other dtypes"
            assert predicted.assumptions[0].startswith(says)
            assert to_record(predicted)["compiled_for"] == "cpu"
            assert " ".join(plain_text(predicted).split()).count(says) == 1
    compared = costax.predict(costax.compare(lambda x: x @ x)(SHAPE), "h100-sxm")
    assert "compiled for the CPU" in compared.warning


@pytest.mark.parametrize(
    ("layout", "call", "backend"),
    [
        ("", CALL.format("__cublas$gemm"), "gpu"),
        ("", CALL.format("__onednn$matmul"), "cpu"),
        ("", CALL.format("lapack_spotrf_ffi"), "cpu"),
        ("", CALL.format("tpu_custom_call"), "tpu"),
        ("{1,0:T(8,128)}", "tanh(p)", "tpu"),
        ("", 'tanh(p), backend_config={"outer_dimension_partitions":["2"]}', "cpu"),
        ("", 'tanh(p), backend_config={"operation_queue_id":"0","wait_on_operation_queues":[]}', "gpu"),
        ("", "tanh(p)", ""),
        ("", CALL.format("my_kernel"), ""),
        # A contradiction is no answer.
        ("{1,0:T(8,128)}", CALL.format("__cublas$gemm"), ""),
    ],
)
def test_a_module_tells_its_backend(layout, call, backend):
    assert backend_of(read_text(ENTRY.format(layout, layout, call))) == backend


def test_the_name_of_a_dump_tells_its_backend():
    module = read_text(ENTRY.format("", "", "tanh(p)"))
    assert backend_of(module, Path("module_0001.jit_f.sm_8.0_gpu_after_optimizations.txt")) == "gpu"
    assert backend_of(module, Path("module_0001.jit_f.cpu_after_optimizations.hlo.pb")) == "cpu"
    assert backend_of(module, Path("cpu.hlo.pb")) == ""


def test_a_module_without_a_sign_says_that_its_machine_is_not_known(tmp_path):
    path = tmp_path / "m.txt"
    path.write_text(ENTRY.format("", "", "tanh(p)"))
    predicted = costax.predict(analyze_file(path), "h100-sxm")
    assert predicted.assumptions[0].startswith("It is not known for which machine the module was compiled")


def test_kernels_by_the_rule_of_a_gpu_say_so_on_other_machines():
    program = costax.analyze(lambda x: jnp.tanh(x @ x))(jax.ShapeDtypeStruct((64, 64), "float32"))
    said = {
        name: " ".join(costax.predict(program, name).assumptions)
        for name in ("v5e", "h100-sxm", "t4", "mi300x", "m4-max")
    }
    assert all("The kernels are chosen by the producer-consumer rule of XLA for an H100." in x for x in said.values())
    rules = "XLA for a TPU fuses by other rules"
    assert rules in said["v5e"]
    assert '`costax.compare(fn, target="tpu:v5e")`' in said["v5e"]
    assert "no model of the compiler for" in said["m4-max"]
    assert not any("fuses by other rules" in said[name] for name in ("h100-sxm", "t4", "mi300x"))
    # XLA's own kernels are those of the machine that they were compiled for, and nothing is said.
    compared = costax.compare(lambda x: jnp.tanh(x @ x))(jax.ShapeDtypeStruct((64, 64), "float32"))
    assert rules not in " ".join(costax.predict(compared, "v5e").assumptions)


def test_nothing_is_said_of_the_same_machine_or_without_xla(lowered):
    analysis = costax.analyze(lambda x: x @ x)(SHAPE)
    assert not costax.predict(analysis, "h100-sxm").warning
    assert not costax.predict(costax.analyze(lowered)(), "h100-sxm").warning
    if ORACLE.exists():
        module = analyze_file(ORACLE)
        assert module.compiled_for == "gpu"
        assert not costax.predict(module, "h100-sxm").warning
        assert "compiled for a GPU; XLA for a TPU" in costax.predict(module, "v5e").warning
