"""Flame graphs: their weights add up to the totals, and the programs that draw them can read them."""

from __future__ import annotations

import gzip
import itertools
import json

import jax
import jax.numpy as jnp
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import costax
from analyses import analysis_of
from costax.analysis.analysis import Analysis
from costax.report import flamegraph

# The result is the same for every version of jax.
pytestmark = pytest.mark.once


def step() -> Analysis:
    def loss(w, x):
        with jax.named_scope("net"):
            return jnp.sum(jnp.tanh(x @ w) * 2)

    return costax.analyze(jax.grad(loss), params_argnums=0)(costax.spec("f32[8,3]"), costax.spec("f32[4,8]"))


def test_speedscope_profiles_add_up_to_the_totals():
    analysis = step()
    record = json.loads(flamegraph.as_speedscope(analysis))
    totals = {p["name"].partition(", ")[2]: p for p in record["profiles"]}
    assert totals["FLOPs"]["endValue"] == sum(totals["FLOPs"]["weights"]) == analysis.total.flops
    assert totals["bytes, unfused"]["unit"] == "bytes"
    frames = record["shared"]["frames"]
    for profile in record["profiles"]:
        # The rules of file-format-schema.json for a sampled profile.
        assert profile["type"] == "sampled"
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(0 <= frame < len(frames) for sample in profile["samples"] for frame in sample)
        assert profile["unit"] in ("none", "bytes", "seconds", "milliseconds", "microseconds", "nanoseconds")
    dots = [s for s in totals["MACs"]["samples"] if frames[s[-1]]["name"] == "dot_general"]
    assert [[frames[f]["name"] for f in s] for s in dots] == [
        ["forward", "net", "dot_general"],
        ["backward", "net", "dot_general"],
    ]
    assert frames[dots[0][-1]]["file"] == __file__


def predicted():
    return costax.predict(step(), "h100-sxm")


def test_a_predictions_flame_graph_adds_up_to_its_seconds():
    found = predicted()
    (profile,) = json.loads(flamegraph.prediction_as_speedscope(found))["profiles"]
    assert profile["unit"] == "seconds"
    assert sum(profile["weights"]) == pytest.approx(found.seconds - found.dispatch)


def test_a_predictions_trace_lasts_as_long_as_it_says():
    found = predicted()
    events = [e for e in json.loads(flamegraph.prediction_as_perfetto(found))["traceEvents"] if e["ph"] == "X"]
    assert len(events) >= len(found.parts)
    # One after the other, without gaps, in microseconds.
    for before, after in itertools.pairwise(events):
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"])
    assert events[-1]["ts"] + events[-1]["dur"] == pytest.approx(found.seconds * 1e6)
    assert "net" in {e["args"]["scope"] for e in events if "args" in e}


# The parts of pprof's profile.proto that a flame graph needs, so that protobuf itself reads the bytes.
FIELDS = {
    "ValueType": [("type", 1, "int64"), ("unit", 2, "int64")],
    "Sample": [("location_id", 1, "uint64*"), ("value", 2, "int64*")],
    "Line": [("function_id", 1, "uint64"), ("line", 2, "int64")],
    "Location": [("id", 1, "uint64"), ("line", 4, "Line*")],
    "Function": [("id", 1, "uint64"), ("name", 2, "int64"), ("system_name", 3, "int64"), ("filename", 4, "int64")],
    "Profile": [
        ("sample_type", 1, "ValueType*"),
        ("sample", 2, "Sample*"),
        ("location", 4, "Location*"),
        ("function", 5, "Function*"),
        ("string_table", 6, "string*"),
        ("default_sample_type", 14, "int64"),
    ],
}


def profile_class():
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="pprof", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            bare = kind.rstrip("*")
            made = message.field.add(name=field, number=number)
            made.label = types.LABEL_REPEATED if kind.endswith("*") else types.LABEL_OPTIONAL
            if bare in FIELDS:
                made.type, made.type_name = types.TYPE_MESSAGE, f".pprof.{bare}"
            else:
                made.type = getattr(types, f"TYPE_{bare.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pprof.Profile"))


def test_pprof_profiles_are_read_by_protobuf_and_add_up():
    analysis = step()
    profile = profile_class().FromString(gzip.decompress(flamegraph.as_pprof(analysis)))
    strings = profile.string_table
    assert strings[0] == ""
    kinds = [strings[kind.type] for kind in profile.sample_type]
    sums = {kind: sum(s.value[i] for s in profile.sample) for i, kind in enumerate(kinds)}
    assert sums["FLOPs"] == analysis.total.flops
    assert sums["bytes, unfused"] == analysis.total.bytes_unfused
    functions = {f.id: strings[f.name] for f in profile.function}
    at = {location.id: functions[location.line[0].function_id] for location in profile.location}
    # Leaf first.
    assert ["dot_general", "net", "backward"] in [[at[i] for i in s.location_id] for s in profile.sample]


def test_a_profile_of_a_program_beyond_64_bits_says_its_scale():
    profile = profile_class().FromString(gzip.decompress(flamegraph.as_pprof(analysis_of({"a": 10**24, "b": 5}))))
    assert "FLOPs x 1,000,000" in profile.string_table
    assert profile.sample[0].value[0] == 10**18
