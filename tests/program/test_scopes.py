"""Every layer has one path, forward and backward, in each library."""

import threading

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import costax
from costax.errors import InputError
from costax.program.frameworks import scope_context

# One process of pytest-xdist runs all of them: they share what jax compiled for their modules.
pytestmark = pytest.mark.xdist_group("scopes")

KEY = jax.random.key(0)


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def macs(analysis):
    """Return the MACs by scope, where there are any."""
    return {scope: cost.macs for scope, cost in analysis.by_scope().items() if cost.macs}


def paths(analysis, direction):
    """Return the scopes with MACs in one direction."""
    return {"/".join(row.scope) for row, cost in analysis.rows.items() if row.direction == direction and cost.macs}


class LinenBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return x + nn.Dense(self.width, name="down")(nn.relu(nn.Dense(4 * self.width, name="up")(x)))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = LinenBlock(8, name=f"block_{i}")(x)
        return nn.Dense(3, name="head")(x)


class NnxBlock(nnx.Module):
    def __init__(self, width, rngs):
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.relu(self.up(x)))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NnxBlock(8, rngs) for _ in range(2)])
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class EqxBlock(eqx.Module):
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width, key):
        up, down = jax.random.split(key)
        self.up = eqx.nn.Linear(width, 4 * width, key=up)
        self.down = eqx.nn.Linear(4 * width, width, key=down)

    def __call__(self, x):
        return x + jax.vmap(self.down)(jax.nn.relu(jax.vmap(self.up)(x)))


class EqxNet(eqx.Module):
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, key):
        first, second, head = jax.random.split(key, 3)
        self.blocks = [EqxBlock(8, first), EqxBlock(8, second)]
        self.head = eqx.nn.Linear(8, 3, key=head)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.head)(x)


def haiku_net(x):
    for i in range(2):
        x = x + hk.nets.MLP([32, 8], name=f"block_{i}")(x)
    return hk.Linear(3, name="head")(x)


NETS = {
    "linen": (LinenNet, "LinenNet/block_{}/up", "LinenNet/block_{}/down", "LinenNet/head"),
    "nnx": (lambda: NnxNet(nnx.Rngs(0)), "NnxNet/blocks/{}/up", "NnxNet/blocks/{}/down", "NnxNet/head"),
    "equinox": (lambda: EqxNet(KEY), "EqxNet/blocks/{}/up", "EqxNet/blocks/{}/down", "EqxNet/head"),
    "haiku": (lambda: hk.transform(haiku_net), "block_{}/linear_0", "block_{}/linear_1", "head"),
}


def expected(library):
    _, up, down, head = NETS[library]
    n = 5
    layers = {path.format(i): n * 8 * 32 for path in (up, down) for i in range(2)}
    return {**layers, head: n * 8 * 3}


@pytest.mark.parametrize("library", NETS)
def test_every_layer_has_one_path(library):
    net = NETS[library][0]()
    analysis = costax.analyze(net)(f32(5, 8))
    assert macs(analysis) == expected(library)
    assert {scope for scope, size in analysis.params_by_scope().items() if size.elements} == set(expected(library))


def gradient_of(library):
    """Return a function that takes parameters first, and arguments for it."""
    net = NETS[library][0]()
    if library in ("linen", "haiku"):
        params = jax.eval_shape(net.init, KEY, f32(5, 8))
        apply = net.apply if library == "linen" else hk.without_apply_rng(net).apply
        return jax.grad(lambda params, x: apply(params, x).sum()), params
    grad = nnx.grad if library == "nnx" else eqx.filter_grad
    return grad(lambda net, x: net(x).sum()), net


@pytest.mark.parametrize("library", NETS)
def test_the_backward_pass_has_the_paths_of_the_forward_pass(library):
    gradient, params = gradient_of(library)
    analysis = costax.analyze(gradient, params_argnums=0)(params, f32(5, 8))
    assert paths(analysis, "backward") == set(expected(library))
    first = min(expected(library))
    assert paths(analysis, "forward") >= set(expected(library)) - {NETS[library][3]}
    # Two products a layer going back, but one where the input needs no gradient.
    backward = sum(cost.macs for row, cost in analysis.rows.items() if row.direction == "backward")
    assert (
        backward
        == 2 * sum(expected(library).values())
        - expected(library)[first if library == "haiku" else NETS[library][1].format(0)]
    )


def test_parents_equal_the_sum_of_their_children():
    analysis = costax.analyze(NnxNet(nnx.Rngs(0)))(f32(5, 8))
    for depth in range(4):
        assert sum(cost.flops for cost in analysis.by_scope(depth).values()) == analysis.total.flops


def test_a_shared_layer_accumulates_in_one_path():
    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x):
            return self.layer(self.layer(x))

    assert macs(costax.analyze(Twice(nnx.Rngs(0)))(f32(3, 4))) == {"Twice/layer": 2 * 3 * 4 * 4}


def test_nnx_scan_over_stacked_layers_has_the_path_of_the_stack():
    class Stack(nnx.Module):
        def __init__(self, rngs):
            self.blocks = nnx.vmap(lambda rngs: NnxBlock(8, rngs))(rngs.split(6))

        def __call__(self, x):
            return nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)

    analysis = costax.analyze(Stack(nnx.Rngs(0)))(f32(5, 8))
    layer = 6 * 5 * 8 * 32
    assert macs(analysis) == {"Stack/blocks/up": layer, "Stack/blocks/down": layer}
    assert analysis.params_by_scope()["Stack/blocks/up"].elements == 6 * (8 * 32 + 32)


@pytest.mark.parametrize("wrap", [nnx.remat, nnx.jit])
def test_layers_inside_a_transformed_nnx_method_keep_their_paths(wrap):
    class Attention(nnx.Module):
        def __init__(self, rngs):
            self.query, self.key, self.value = (nnx.Linear(4, 4, rngs=rngs) for _ in range(3))

        @wrap
        def __call__(self, x):
            return self.query(x) * self.key(x) + self.value(x)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = Attention(rngs), Attention(rngs)

        def __call__(self, x):
            return self.second(self.first(x))

    net = Net(nnx.Rngs(0))
    layers = {f"Net/{a}/{b}": 3 * 4 * 4 for a in ("first", "second") for b in ("query", "key", "value")}
    assert macs(costax.analyze(net)(f32(3, 4))) == layers
    gradient = costax.analyze(nnx.grad(lambda net, x: net(x).sum()))(net, f32(3, 4))
    assert paths(gradient, "backward") == set(layers)


def test_a_filter_jitted_equinox_method_keeps_the_paths_of_its_layers():
    class Net(eqx.Module):
        first: eqx.nn.Linear
        second: eqx.nn.Linear

        @eqx.filter_jit
        def __call__(self, x):
            return self.second(self.first(x))

    net = Net(*(eqx.nn.Linear(4, 4, key=KEY) for _ in range(2)))
    assert macs(costax.analyze(net)(f32(4))) == {"Net/first": 4 * 4, "Net/second": 4 * 4}


def test_an_equinox_scan_over_stacked_layers_has_the_path_of_the_stack():
    class Stack(eqx.Module):
        blocks: EqxBlock

        def __init__(self, key):
            self.blocks = eqx.filter_vmap(lambda key: EqxBlock(8, key))(jax.random.split(key, 6))

        def __call__(self, x):
            arrays, static = eqx.partition(self.blocks, eqx.is_array)
            return lax.scan(lambda x, arrays: (eqx.combine(arrays, static)(x), None), x, arrays)[0]

    analysis = costax.analyze(Stack(KEY))(f32(5, 8))
    layer = 6 * 5 * 8 * 32
    assert macs(analysis) == {"Stack/blocks/up": layer, "Stack/blocks/down": layer}


def test_an_equinox_checkpoint_recomputes_in_the_paths_of_the_layers():
    class Net(eqx.Module):
        blocks: list

        def __call__(self, x):
            for block in self.blocks:
                x = eqx.filter_checkpoint(block)(x)
            return x

    net = Net([EqxBlock(8, KEY), EqxBlock(8, KEY)])
    layers = {f"Net/blocks/{i}/{name}" for i in range(2) for name in ("up", "down")}
    assert set(macs(costax.analyze(net)(f32(5, 8)))) == layers
    gradient = costax.analyze(eqx.filter_grad(lambda net, x: net(x).sum()))(net, f32(5, 8))
    assert paths(gradient, "backward") == layers


def test_equinox_layers_in_sequences_and_dictionaries_have_their_keys():
    class Net(eqx.Module):
        heads: dict
        trunk: eqx.nn.Sequential

        def __call__(self, x):
            x = self.trunk(x)
            return {name: head(x) for name, head in self.heads.items()}

    linear = eqx.nn.Linear(4, 4, key=KEY)
    other = eqx.nn.Linear(4, 4, key=jax.random.key(1))
    trunk = eqx.nn.Sequential([linear, eqx.nn.Lambda(jax.nn.relu), other])
    net = Net({"policy": eqx.nn.Linear(4, 2, key=KEY), "value": eqx.nn.Linear(4, 1, key=KEY)}, trunk)
    assert macs(costax.analyze(net)(f32(4))) == {
        "Net/trunk/layers/0": 16,
        "Net/trunk/layers/2": 16,
        "Net/heads/policy": 8,
        "Net/heads/value": 4,
    }


def test_a_module_that_holds_modules_of_its_own_class_is_found_by_identity():
    class Tree(eqx.Module):
        layer: eqx.nn.Linear
        children: list

        def __call__(self, x):
            x = self.layer(x)
            for child in self.children:
                x = child(x)
            return x

    def linear():
        return eqx.nn.Linear(4, 4, key=KEY)

    tree = Tree(linear(), [Tree(linear(), []), Tree(linear(), [Tree(linear(), [])])])
    assert set(macs(costax.analyze(tree)(f32(4)))) == {
        "Tree/layer",
        "Tree/children/0/layer",
        "Tree/children/1/layer",
        "Tree/children/1/children/0/layer",
    }


def test_the_subscripts_of_an_einsum_are_no_layer():
    with jax.named_scope("caller"):

        def f(a, b):
            with jax.named_scope("scores"):
                return jnp.einsum("ij,jk->ik", a, b)

        assert set(macs(costax.analyze(f)(f32(4, 4), f32(4, 4)))) == {"scores"}


def test_two_roots_of_one_class_are_told_apart_by_the_names_that_the_caller_gives_them():
    def losses(actor, critic, x):
        return jax.vmap(actor)(x).sum() + jax.vmap(critic)(x).sum()

    actor, critic = (eqx.nn.MLP(4, 2, 8, 1, key=KEY) for _ in range(2))
    assert set(macs(costax.analyze(losses)(actor, critic, f32(3, 4)))) == {
        "actor/layers/0",
        "actor/layers/1",
        "critic/layers/0",
        "critic/layers/1",
    }


def test_a_module_in_a_closure_has_scopes_too():
    net = NnxNet(nnx.Rngs(0))
    assert macs(costax.analyze(lambda x: net(x))(f32(5, 8))) == expected("nnx")


def test_a_method_of_an_nnx_module_has_the_path_of_its_module():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(16, 4, rngs=rngs)

        def __call__(self, tokens):
            return self.embed.attend(self.embed(tokens))

    analysis = costax.analyze(Tied(nnx.Rngs(0)))(jax.ShapeDtypeStruct((3,), jnp.int32))
    assert macs(analysis) == {"Tied/embed": 3 * 4 * 16}


def test_a_named_scope_in_a_plain_function_is_a_path():
    def f(w, x):
        with jax.named_scope("encoder"), jax.named_scope("layer_0"):
            return jnp.tanh(x @ w)

    analysis = costax.analyze(jax.grad(lambda w, x: f(w, x).sum()), params_argnums=0)(f32(4, 4), f32(3, 4))
    assert paths(analysis, "backward") == {"encoder/layer_0"}
    assert set(analysis.params_by_scope()) == {"encoder/layer_0"}


# The caller's program is untouched.


def attributes():
    """Return the call of every module class there is."""
    waiting, found = [nnx.Module, eqx.Module], {}
    while waiting:
        cls = waiting.pop()
        found.update({(cls, name): value for name, value in cls.__dict__.items() if callable(value)})
        waiting.extend(cls.__subclasses__())
    return found


def assert_same_attributes(before):
    after = attributes()
    assert all(after[key] is value for key, value in before.items())


def test_no_module_stays_wrapped():
    nets = [NnxNet(nnx.Rngs(0)), EqxNet(KEY)]
    before = attributes()
    for net in nets:
        costax.analyze(net)(f32(5, 8))
    assert_same_attributes(before)


def test_no_module_stays_wrapped_after_an_error():
    net = NnxNet(nnx.Rngs(0))
    before = attributes()
    with pytest.raises(InputError):
        costax.analyze(net)(f32(5, 7))
    assert_same_attributes(before)


def test_an_analysis_inside_an_analysis_and_one_in_another_thread_leave_nothing_behind():
    before = attributes()
    inner = []

    def f(x):
        inner.append(costax.analyze(EqxNet(KEY))(f32(5, 8)))
        thread = threading.Thread(target=lambda: inner.append(costax.analyze(EqxNet(KEY))(f32(5, 8))))
        thread.start()
        thread.join()
        return net(x)

    net = NnxNet(nnx.Rngs(0))
    outer = costax.analyze(f)(f32(5, 8))
    assert macs(outer) == expected("nnx")
    assert all(macs(analysis) == expected("equinox") for analysis in inner)
    assert_same_attributes(before)


def test_a_thread_that_analyses_nothing_sees_no_scope():
    net = NnxNet(nnx.Rngs(0))
    with scope_context(net, (), {}):
        found = []
        graph, state = nnx.split(net)

        def trace():
            found.append(jax.jit(lambda state, x: nnx.merge(graph, state)(x)).trace(state, f32(5, 8)).jaxpr)

        thread = threading.Thread(target=trace)
        thread.start()
        thread.join()
    assert all(not str(eqn.source_info.name_stack) for eqn in found[0].eqns)


def test_a_thread_that_analyses_nothing_keeps_the_scopes_of_equinox():
    net = EqxNet(KEY)

    def names():
        jaxpr = jax.make_jaxpr(lambda x: net(x))(f32(5, 8)).jaxpr
        return {str(eqn.source_info.name_stack) for eqn in jaxpr.eqns}

    alone, found = names(), []
    assert any("Linear" in name for name in alone)
    with scope_context(net, (f32(5, 8),), {}):
        thread = threading.Thread(target=lambda: found.append(names()))
        thread.start()
        thread.join()
    assert found == [alone]


def test_analysing_leaves_no_trace_in_jaxs_caches():
    @jax.jit
    def inner(net, x):
        return net(x)

    outer = jax.jit(lambda net, x: inner(net, x).sum())
    net = nnx.Linear(8, 3, rngs=nnx.Rngs(0))
    analyses, texts = [], []
    for _ in range(3):
        jax.clear_caches()
        if texts:
            analyses.append(costax.analyze(outer)(net, f32(5, 8)))
        texts.append(outer.lower(net, np.ones((5, 8), np.float32)).as_text(debug_info=True))
    assert texts[0] == texts[1] == texts[2]
    assert analyses[0].rows == analyses[1].rows
    assert set(macs(analyses[0])) == {"Linear"}


def test_analysing_first_gives_the_same_program_as_never_analysing():
    net = EqxNet(KEY)
    arrays, static = eqx.partition(net, eqx.is_array)
    f = jax.jit(lambda arrays, x: eqx.combine(arrays, static)(x))
    texts = []
    for analysed in (False, True):
        jax.clear_caches()
        if analysed:
            assert set(macs(costax.analyze(f)(arrays, f32(5, 8)))) == set(expected("equinox"))
        texts.append(f.lower(arrays, f32(5, 8)).as_text(debug_info=True))
    assert texts[0] == texts[1]


def test_a_jitted_function_that_two_models_share_has_the_paths_of_each():
    @jax.jit
    def run(layer, x):
        return jax.vmap(layer)(x)

    class First(eqx.Module):
        attention: eqx.nn.Linear

        def __call__(self, x):
            return run(self.attention, x)

    class Second(eqx.Module):
        mixer: eqx.nn.Linear

        def __call__(self, x):
            return run(self.mixer, x)

    linear = eqx.nn.Linear(4, 4, key=KEY)
    assert set(macs(costax.analyze(First(linear))(f32(3, 4)))) == {"First/attention"}
    assert set(macs(costax.analyze(Second(linear))(f32(3, 4)))) == {"Second/mixer"}


def test_a_program_that_the_scopes_would_break_is_traced_without_them():
    class Odd(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x):
            assert "costax" not in type(self.layer).__call__.__code__.co_filename
            return self.layer(x)

    with pytest.warns(UserWarning, match="added no scopes for the layers"):
        analysis = costax.analyze(Odd(nnx.Rngs(0)))(f32(3, 4))
    assert analysis.total.macs == 3 * 4 * 4
