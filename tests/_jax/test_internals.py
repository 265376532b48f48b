"""The names of jax and jaxlib that `costax._jax` uses exist in the installed jax.

A name that jax has renamed or removed fails here, under that name, and not somewhere in the middle of an analysis. The
names are read from the source, so that a new use is tested too.
"""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import export

from costax import _jax

FILES = {path.name: ast.parse(path.read_text()) for path in Path(_jax.__file__).parent.glob("*.py")}
LIBRARIES = ("jax", "jaxlib")


def aliases(tree: ast.AST) -> dict[str, str]:
    """The dotted name of jax that each local name of a file stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {a.asname or a.name.partition(".")[0]: a.name for a in node.names}
            case ast.ImportFrom(module=str(module)):
                names |= {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
            case ast.AnnAssign(target=ast.Name(name), value=ast.Call(args=[ast.Constant(str(module))])):
                names[name] = module
            # `_Dimension: Any = _shape_poly._DimExpr`
            case ast.AnnAssign(target=ast.Name(name), value=ast.Attribute() | ast.Name() as value):
                head, *rest = dotted(value) or [""]
                names[name] = ".".join((names.get(head, head), *rest))
            # `_Decision: Any = vars(_shape_poly_decision)["_DecisionByElimination"]`
            case ast.AnnAssign(
                target=ast.Name(name),
                value=ast.Subscript(ast.Call(args=[ast.Name(head)]), ast.Constant(str(attribute))),
            ):
                names[name] = f"{names.get(head, head)}.{attribute}"
            case _:
                pass
    return {alias: name for alias, name in names.items() if name.partition(".")[0] in LIBRARIES}


def dotted(node: ast.AST) -> list[str]:
    """The names of `a.b.c`, or nothing for another expression."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return [*inner, node.attr] if inner else []
    return [node.id] if isinstance(node, ast.Name) else []


def used(tree: ast.AST) -> set[str]:
    """The dotted names of jax that a file uses."""
    names = aliases(tree)
    # An attribute that costax adds to a class of jax and deletes again is not one of jax's.
    read = (node for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Load))
    chains = [dotted(node) for node in read]
    # `(_numpy, "_arange_dynamic", ...)` is a function that costax replaces while it traces.
    for node in ast.walk(tree):
        match node:
            case ast.Tuple(elts=[ast.Name(head), ast.Constant(str(attribute)), *_]):
                chains.append([head, attribute])
            case _:
                pass
    return set(names.values()) | {
        ".".join((names[head], *rest)) for head, *rest in filter(None, chains) if head in names
    }


def missing(name: str) -> str:
    """The part of a dotted name that does not exist, or an empty text. What an instance has is not looked up."""
    head, *rest = name.split(".")
    value, path = import_module(head), head
    for attribute in rest:
        if not (inspect.ismodule(value) or inspect.isclass(value)):
            return ""
        path = f"{path}.{attribute}"
        if not hasattr(value, attribute):
            try:
                import_module(path)
            except ModuleNotFoundError:
                return path
        value = getattr(value, attribute)
    return ""


@pytest.mark.parametrize(("file", "name"), sorted((file, name) for file, tree in FILES.items() for name in used(tree)))
def test_a_name_of_jax_exists(file, name):
    assert missing(name) == "", f"{file} uses {name}, and this jax has no {missing(name)}"


def test_the_names_are_read_from_every_kind_of_use():
    names = {name for tree in FILES.values() for name in used(tree)}
    assert {
        # An import, an alias, a module that is imported by name, a class from `vars`, and two replaced functions.
        "jax._src.core.Jaxpr",
        "jax.extend.core.jaxpr_as_fun",
        "jax._src.compiler.get_compile_options",
        "jax._src.export.shape_poly._DimExpr",
        "jax._src.export.shape_poly._DimExpr.__eq__",
        "jax._src.numpy.indexing.rewriting_take",
        "jax._src.export.shape_poly_decision._DecisionByElimination._bounds_for_sorted_terms",
    } <= names
    assert not [name for name in names if name.partition(".")[0] not in LIBRARIES]


def test_a_name_that_does_not_exist_is_noticed():
    assert missing("jax._src.core.Jaxprs") == "jax._src.core.Jaxprs"
    assert missing("jax.no_such_module.function") == "jax.no_such_module"
    assert missing("jax._src.core.Jaxpr.eqnss") == "jax._src.core.Jaxpr.eqnss"
    assert missing("jax._src.core.Jaxpr.eqns") == ""


def private_attributes(tree: ast.AST) -> set[str]:
    """The private attributes that a file reads from values, such as `_params` in `traced._params`."""
    modules = aliases(tree)
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {"self", "sys", "_STATE"}
    names = {a.attr for a in attributes if a.attr.startswith("_") and (dotted(a) or [""])[0] not in {*modules, *own}}
    return {name for name in names if not name.startswith("__")}


def test_private_attributes_of_values_exist():
    def double(x):
        return 2 * x

    traced = jax.jit(double, static_argnames=()).trace(jnp.ones(2))
    lowered = traced.lower()
    (dimension,) = export.symbolic_shape("b")
    # Each attribute with a value that has it.
    values = {
        "_compiler_options_kvs": lowered._lowering,
        "_explicit_constraints": dimension.scope,
        "_factors": dimension._sorted_terms[0][0],
        "_in_tree": traced,
        "_impl": jax.random.key(0).dtype,
        "_jit_info": jax.jit(double),
        "_lojax": traced,
        "_lowering": lowered,
        "_params": traced,
        "_meta_tys_flat": traced,
        "_sorted_terms": dimension,
    }
    read = set().union(*map(private_attributes, FILES.values())) | {"_compiler_options_kvs"}
    assert read == values.keys(), "add the attribute, and a value that has it, to `values`"
    assert [name for name, value in values.items() if not hasattr(value, name)] == []
    compile_arguments = lowered._lowering.compile_args
    wanted = {"in_shardings", "out_shardings", "ordered_effects", "tuple_args"}
    assert wanted - compile_arguments.keys() == set()
    assert {"static_argnums", "static_argnames"} <= set(dir(jax.jit(double)._jit_info))
