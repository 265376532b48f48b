"""Graphs for Model Explorer: each equation is a node, edges are its operands, and the numbers add up to the total."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest

import costax
import traces
from costax.errors import CostaxError, RecordError
from traces import written


def training_step(w, x):
    def loss(w):
        with jax.named_scope("encoder"):
            y = jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), x, None, length=5)[0]
        with jax.named_scope("head"):
            return jnp.sum(jax.lax.cond(y[0, 0] > 0, jnp.sin, lambda y: y * 2, y))

    return w - 0.1 * jax.grad(loss)(w)


def analysis():
    return costax.analyze(training_step)("f32[8,8]", "f32[4,8]")


def read(path):
    return json.loads(path.read_text())


def saved(value, folder):
    """Save a graph; return its nodes by id, its groups, and the overlays by name."""
    value.save(folder / "step.model_explorer.json")
    collection = read(folder / "step.model_explorer.json")
    (graph,) = collection["graphs"]
    overlays = {}
    for path in folder.glob("step.*.node_data.json"):
        ((name, data),) = read(path).items()
        assert name == graph["id"]
        overlays[path.name.split(".")[1]] = {node: value["value"] for node, value in data["results"].items()}
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    return nodes, graph["groupNodeAttributes"], overlays


def edges(nodes):
    return [(edge["sourceNodeId"], node) for node, record in nodes.items() for edge in record["incomingEdges"]]


def test_the_numbers_of_all_nodes_are_the_total(tmp_path):
    _, groups, overlays = saved(account := analysis(), tmp_path)
    assert set(overlays) == {"flops", "bytes"}
    assert sum(overlays["flops"].values()) == account.flops
    assert sum(overlays["bytes"].values()) == account.total.bytes_unfused
    assert groups[""]["FLOPs"] == f"{account.flops:,}"
    # The layers: 5 products forward, and twice as many backward.
    forward = next(group for group in groups if group.startswith("forward/encoder"))
    assert groups["forward/encoder"]["MACs"] == f"{5 * 4 * 8 * 8:,}"
    assert groups["backward/encoder"]["MACs"] == f"{2 * 5 * 4 * 8 * 8:,}"
    assert forward.split("/")[0] in account.by_direction()


def test_the_edges_are_the_operands(tmp_path):
    nodes, _, _ = saved(costax.analyze(lambda a, b: jnp.sin(a) @ b)("f32[2,3]", "f32[3,4]"), tmp_path)
    labels = {node: record["label"] for node, record in nodes.items()}
    named = {(labels[start], labels[end]) for start, end in edges(nodes)}
    assert named == {("0/0", "sin"), ("sin", "dot_general"), ("0/1", "dot_general"), ("dot_general", "outputs")}
    product = next(record for record in nodes.values() if record["label"] == "dot_general")
    assert product["outputsMetadata"] == [{"id": "0", "attrs": [{"key": "shape", "value": "f32[2,4]"}]}]
    assert [edge["targetNodeInputId"] for edge in product["incomingEdges"]] == ["0", "1"]


def test_loops_and_branches_are_connected_and_in_their_layer(tmp_path):
    nodes, _, _ = saved(analysis(), tmp_path)
    assert all(start in nodes for start, _ in edges(nodes))
    reached, frontier = {"outputs"}, ["outputs"]
    before = {}
    for start, end in edges(nodes):
        before.setdefault(end, []).append(start)
    while frontier:
        for start in before.get(frontier.pop(), ()):
            if start not in reached:
                reached.add(start)
                frontier.append(start)
    assert {"input 0", "input 1"} <= reached
    inside = [record for record in nodes.values() if "/encoder/scan" in f"/{record['namespace']}"]
    assert {"tanh", "dot_general"} <= {record["label"] for record in inside}
    runs = [attr["value"] for record in inside for attr in record["attrs"] if attr["key"] == "runs"]
    assert set(runs) == {"5"}


def test_predicted_seconds_are_an_overlay(tmp_path):
    prediction = analysis().predict("h100")
    nodes, _, overlays = saved(prediction, tmp_path)
    assert sum(overlays["seconds"].values()) == pytest.approx(sum(part.seconds for part in prediction.parts))
    assert set(overlays["seconds"]) <= set(nodes)
    assert all(not node.startswith("kernel") for node in nodes)


def test_the_kernels_of_a_compiled_program_are_nodes(tmp_path):
    compiled = costax.analyze(jax.jit(training_step).lower(*map(costax.spec, ("f32[8,8]", "f32[4,8]"))).compile())()
    prediction = costax.predict(compiled, "h100")
    _, _, overlays = saved(prediction, tmp_path)
    assert sum(overlays["seconds"].values()) == pytest.approx(sum(part.seconds for part in prediction.parts))


def test_measured_seconds_are_an_overlay(tmp_path):
    joined = costax.join(None, written(tmp_path, "host.xplane.pb", traces.gpu_xplane()))
    nodes, _, overlays = saved(joined, tmp_path)
    assert sum(overlays["seconds"].values()) == pytest.approx(float(sum(row.seconds for row in joined.rows)))
    assert any(record["namespace"] == "net/layer_0" for record in nodes.values())


def test_a_record_is_a_graph_of_its_rows_without_edges(tmp_path):
    """A record has the counts of each layer and primitive, but no equations."""
    (account := analysis()).save(tmp_path / "record.json")
    nodes, groups, overlays = saved(costax.load(tmp_path / "record.json"), tmp_path)
    assert not edges(nodes)
    assert sum(overlays["flops"].values()) == account.flops
    assert groups["backward/encoder"]["MACs"] == f"{2 * 5 * 4 * 8 * 8:,}"


def test_a_formula_is_refused_and_leaves_no_file(tmp_path):
    """Negative controls: a formula is no number, and a missing folder is not created."""
    with pytest.raises(CostaxError, match="number"):
        costax.analyze(lambda x: x + 1)("f32[b]").save(tmp_path / "step.model_explorer.json")
    with pytest.raises(RecordError, match="directory"):
        analysis().save(tmp_path / "missing" / "step.model_explorer.json")
    assert not list(tmp_path.iterdir())


def test_model_explorer_reads_the_files(tmp_path):
    """Its own classes take every field."""
    explorer = pytest.importorskip("model_explorer", reason="ai-edge-model-explorer is not installed")
    prediction = analysis().predict("h100")
    prediction.save(tmp_path / "step.model_explorer.json")
    graph = read(tmp_path / "step.model_explorer.json")["graphs"][0]
    builder = explorer.graph_builder
    for node in graph["nodes"]:
        fields = {**node}
        fields["attrs"] = [builder.KeyValue(**x) for x in node["attrs"]]
        fields["incomingEdges"] = [builder.IncomingEdge(**x) for x in node["incomingEdges"]]
        fields["outputsMetadata"] = [builder.MetadataItem(**x) for x in node["outputsMetadata"]]
        builder.GraphNode(**fields)
    for path in tmp_path.glob("step.*.node_data.json"):
        (data,) = read(path).values()
        explorer.node_data_builder.GraphNodeData(**data)
