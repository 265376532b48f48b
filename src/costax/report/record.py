"""The record: an Analysis as JSON, and back.

Integers stay exact, whatever their size. The reader checks that the rows of a record sum to its total. This module does
not import jax, so that `costax show` starts fast. `analysis.schema.json`, beside this file, describes the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from costax.analysis.analysis import Analysis
from costax.analysis.scope_tree import ScopeNode, scope_tree
from costax.core.cost import FIELDS, Cost
from costax.core.polynomial import Polynomial
from costax.report.record_reader import RecordReader

SCHEMA: Final = "costax/analysis/2"


def to_record(analysis: Analysis) -> dict[str, Any]:
    """Return the record of an analysis: plain dictionaries, lists, strings and integers."""
    return written(
        {
            "schema": SCHEMA,
            "name": analysis.name,
            "versions": dict(analysis.versions),
            "total": _cost(analysis.total),
            "per_device": _cost(analysis.per_device),
            "devices": analysis.devices,
            "even_share": analysis.even_share,
            "params": analysis.params,
            "param_bytes": analysis.param_bytes,
            "exact": analysis.exact,
            "exactness": analysis.exactness,
            "unknowns": [
                {"place": u.place, "source": u.source, "assumed": u.assumed, "answered": u.answered}
                for u in analysis.unknowns
            ],
            "uncounted": [
                {
                    "primitive": missing.primitive,
                    "source": missing.where,
                    "inputs": missing.inputs,
                    "outputs": missing.outputs,
                    "params": missing.params,
                    "count": missing.count,
                    "reason": missing.reason,
                }
                for missing in analysis.uncounted
            ],
            "choices": [
                {
                    "place": choice.place,
                    "source": choice.source,
                    "how": choice.how,
                    "branch": choice.branch,
                    "branches": choice.branches,
                }
                for choice in analysis.choices
            ],
            "dead_code": _cost(analysis.dead_code),
            "inputs": [{"path": path, "dtype": x.dtype, "shape": list(x.shape)} for path, x in analysis.inputs],
            "parameters": None
            if analysis.parameters is None
            else [
                {"scope": "/".join(scope), "dtype": dtype, "elements": size.elements, "bytes": size.nbytes}
                for (scope, dtype), size in analysis.parameters.items()
            ],
            "rows": [
                {
                    "scope": "/".join(row.scope),
                    "direction": row.direction,
                    "primitive": row.primitive,
                    "source": row.source,
                    "counts": _counts(cost),
                }
                for row, cost in analysis.rows.items()
            ],
            "tree": _tree(scope_tree(analysis)),
            **_symbols(analysis),
        }
    )


def _symbols(analysis: Analysis) -> dict[str, Any]:
    """Return the fields of a record about symbols and formulas."""
    return {
        "symbols": [{"name": name, "least": atom.least} for name, atom in analysis.atoms.items()],
        "conditions": [
            {"text": c.text, "difference": c.difference, "relation": c.relation} for c in analysis.conditions
        ],
        "extents": list(analysis.extents),
        "exact_by": analysis.exact_by,
        "reason": analysis.reason,
        "point": dict(analysis.point),
    }


def written(value: Any) -> Any:
    """Return a record for JSON, in which every polynomial is a string, such as "2*b*s^2"."""
    if isinstance(value, Polynomial):
        return str(value)
    if isinstance(value, dict):
        return {key: written(part) for key, part in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [written(part) for part in cast("list[Any]", value)]
    return value


def from_record(record: Any, origin: str = "record") -> Analysis:
    """Return the analysis that a record holds; `origin` names the record in errors. Raises RecordError."""
    return RecordReader(origin).analysis(record)


def _cost(cost: Cost) -> dict[str, Any]:
    return {**_fields(cost), "counts": _counts(cost)}


def _fields(cost: Cost) -> dict[str, int]:
    return {name: getattr(cost, name) for name in FIELDS}


def _counts(cost: Cost) -> Mapping[str, Mapping[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for (kind, dtype), count in cost.items():
        counts.setdefault(kind, {})[dtype] = count
    return counts


def _tree(node: ScopeNode) -> dict[str, Any]:
    return {
        "name": node.name,
        "own": _fields(node.own),
        "total": _fields(node.total),
        "params": node.params.elements,
        "param_bytes": node.params.nbytes,
        "children": [_tree(child) for child in node.children],
    }
