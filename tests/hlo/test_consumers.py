"""The layer of what XLA's partitioner moves, read from modules as jaxlib 0.12 writes them, on every version."""

from __future__ import annotations

import pytest

from costax import _jax
from costax.analysis.compiled_module import of_module_file
from costax.hlo.files import ModuleFile

MADE = 'frontend_attributes={is_spmd_generated="true"}'
SLICE = 'metadata={op_name="jit(step)/jvp()/while/body/jit(dynamic_index_in_dim)/squeeze"}'
# The name is that of the slice of the stacked weights; the product of a layer needs them whole.
GATHER = "all-gather(%w), replica_groups={{0,1}}, dimensions={0}"

TEXT = """
HloModule jit_step, is_scheduled=true, num_partitions=2

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}

%fused (p: f32[4,8], q: f32[8,8]) -> f32[4,8] {
  %p = f32[4,8] parameter(0)
  %q = f32[8,8] parameter(1)
  %q_copy = f32[8,8] copy(%q)
  ROOT %dot.2 = f32[4,8] dot(%p, %q_copy), DIMENSIONS, metadata={op_name="jit(step)/jvp(net)/mlp/dot_general"}
}

%body (s: (s32[], f32[4,8], f32[8,8])) -> (s32[], f32[4,8], f32[8,8]) {
  %s = (s32[], f32[4,8], f32[8,8]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %c = f32[4,8] get-tuple-element(%s), index=1
  %v = f32[8,8] get-tuple-element(%s), index=2
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one), metadata={op_name="jit(step)/loop/while/body/add"}
  %dot.3 = f32[4,8] dot(%c, %v), DIMENSIONS, metadata={op_name="jit(step)/loop/while/body/inner/dot_general"}
  ROOT %t = (s32[], f32[4,8], f32[8,8]) tuple(%next, %dot.3, %v)
}

%cond (s: (s32[], f32[4,8], f32[8,8])) -> pred[] {
  %s = (s32[], f32[4,8], f32[8,8]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %n = s32[] constant(4)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: f32[4,8], w: f32[4,8], i: s32[]) -> RESULT {
  %x = f32[4,8] parameter(0), metadata={op_name="x"}
  %w = f32[4,8] parameter(1), metadata={op_name="w"}
  %i = s32[] parameter(2), metadata={op_name="i"}
  %zero = f32[] constant(0)
  %moved = f32[8,8] GATHER
REST
}
"""
PRODUCT = (
    '  ROOT %dot.1 = f32[4,8] dot(%x, %moved), DIMENSIONS, metadata={op_name="jit(step)/jvp(net)/mlp/dot_general"}'
)
FUSION = "  ROOT %fusion = f32[4,8] fusion(%x, %moved), kind=kOutput, calls=%fused"
LOOP = (
    "  %init = (s32[], f32[4,8], f32[8,8]) tuple(%i, %x, %moved)\n"
    "  %while = (s32[], f32[4,8], f32[8,8]) while(%init), condition=%cond, body=%body\n"
    "  ROOT %out = f32[4,8] get-tuple-element(%while), index=1"
)
RESHAPED = "  %b = f32[8,8] reshape(%moved)\n" + PRODUCT.replace("%moved", "%b")


def collective(rest, gather=f"{GATHER}, {MADE}, {SLICE}", result="f32[4,8]"):
    text = TEXT.replace("RESULT", result).replace("GATHER", gather).replace("REST", rest)
    text = text.replace("DIMENSIONS", "lhs_contracting_dims={1}, rhs_contracting_dims={0}")
    (found,) = of_module_file(ModuleFile(_jax.hlo_from_text(text), b"")).collectives
    return found


@pytest.mark.parametrize(
    ("rest", "layer"),
    [(PRODUCT, "net/mlp"), (RESHAPED, "net/mlp"), (FUSION, "net/mlp"), (LOOP, "loop/inner")],
    ids=["a product", "through a reshape", "in a fusion", "in a loop"],
)
def test_what_the_partitioner_moves_belongs_to_the_layer_that_needs_it(rest, layer):
    found = collective(rest)
    assert (found.opcode, found.scope, found.sent) == ("all-gather", layer, 4 * 8 * 4)


def test_a_permutation_belongs_to_the_layer_that_needs_it_too():
    permuted = f"collective-permute(%w), source_target_pairs={{{{0,1}}}}, {MADE}, {SLICE}"
    halo = f"  %sent = f32[4,8] {permuted}\n  %both = f32[8,8] concatenate(%w, %sent), dimensions={{0}}, {MADE}\n"
    found = collective(halo + PRODUCT.replace("%moved", "%both"), "broadcast(%zero), dimensions={}")
    assert (found.opcode, found.scope) == ("collective-permute", "net/mlp")


def test_a_collective_that_the_program_asks_for_keeps_its_own_name():
    assert collective(PRODUCT, f"{GATHER}, {SLICE}").scope == ""


def test_what_is_moved_for_a_result_keeps_its_own_name():
    result = "  ROOT %out = (f32[8,8], f32[4,8]) tuple(%moved, %x)"
    assert collective(result, result="(f32[8,8], f32[4,8])").scope == ""


def test_sums_keep_the_name_of_what_is_added():
    name = 'metadata={op_name="jit(step)/jvp(net)/attention/tanh"}'
    part = f"  %part = f32[4,8] tanh(%x), {name}\n"
    total = f"  %total = f32[4,8] all-reduce(%part), replica_groups={{{{0,1}}}}, to_apply=%sum, {MADE}, {name}\n"
    found = collective(part + total + PRODUCT.replace("%x", "%total"), "broadcast(%zero), dimensions={}")
    assert (found.opcode, found.scope) == ("all-reduce", "net/attention")
