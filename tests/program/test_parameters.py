"""Parameters: as many as the library itself counts, each in the scope that uses it first."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import lax

import costax

# One process of pytest-xdist runs all of them: they share what jax compiled for their modules.
pytestmark = pytest.mark.xdist_group("parameters")

KEY = jax.random.key(0)


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def check(analysis, leaves):
    """Check elements and bytes against leaves, and the sums against the totals."""
    assert analysis.params == sum(leaf.size for leaf in leaves)
    assert analysis.param_bytes == sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    for table in (analysis.params_by_scope(), analysis.params_by_scope(depth=1), analysis.params_by_dtype()):
        assert sum(part.elements for part in table.values()) == analysis.params
        assert sum(part.nbytes for part in table.values()) == analysis.param_bytes


class LinenCnn(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(8, (3, 3))(x)))
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(10)(x)


class LinenAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))


class LinenRnn(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.RNN(nn.LSTMCell(8))(x)


class LinenStack(nn.Module):
    @nn.compact
    def __call__(self, x):
        def step(layer, x, _):
            return layer(x), None

        block = nn.remat(nn.Dense)(8, name="block")
        scan = nn.scan(step, variable_axes={"params": 0}, split_rngs={"params": True}, length=5)
        return scan(block, x, None)[0]


class LinenTied(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(16, 8)
        return embed.attend(nn.Dense(8)(embed(tokens)))


LINEN = {
    "batch norm, dropout": (LinenCnn(), f32(2, 8, 8, 3)),
    "attention": (LinenAttention(), f32(2, 5, 8)),
    "lstm": (LinenRnn(), f32(2, 5, 4)),
    "scan of remat": (LinenStack(), f32(2, 8)),
    "tied embedding": (LinenTied(), i32(2, 5)),
    "sequential": (nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)]), f32(3, 4)),
}


@pytest.mark.parametrize("name", LINEN)
def test_a_linen_module_has_the_parameters_that_its_init_makes(name):
    module, x = LINEN[name]
    params = jax.eval_shape(module.init, KEY, x)["params"]
    analysis = costax.analyze(module)(x)
    check(analysis, jax.tree.leaves(params))
    assert "" not in analysis.params_by_scope()


def test_statistics_are_no_parameters():
    analysis = costax.analyze(LinenCnn())(f32(2, 8, 8, 3))
    assert analysis.params_by_scope()["LinenCnn/BatchNorm_0"].elements == 2 * 8


def test_a_linen_module_in_training_writes_its_statistics():
    analysis = costax.analyze(LinenCnn())(f32(2, 8, 8, 3), train=True)
    assert analysis.params == costax.analyze(LinenCnn())(f32(2, 8, 8, 3)).params
    assert "LinenCnn/Dropout_0" in analysis.by_scope()
    norm = "LinenCnn/BatchNorm_0"
    assert analysis.by_scope()[norm].flops > costax.analyze(LinenCnn())(f32(2, 8, 8, 3)).by_scope()[norm].flops


def test_the_layers_of_a_linen_scan_own_their_stacked_parameters():
    analysis = costax.analyze(LinenStack())(f32(2, 8))
    (scope,) = analysis.params_by_scope()
    assert scope.startswith("LinenStack/")
    assert scope.endswith("block")
    assert analysis.params == 5 * (8 * 8 + 8)


def nnx_tied():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(16, 8, rngs=rngs)
            self.head = nnx.Linear(16, 8, use_bias=False, rngs=rngs)
            self.head.kernel = self.embed.embedding

        def __call__(self, tokens):
            return self.head(jnp.swapaxes(self.embed(tokens), -1, -2) @ jnp.ones((5, 16)))

    return Tied(nnx.Rngs(0))


def nnx_stack():
    return nnx.vmap(lambda rngs: nnx.Linear(4, 4, rngs=rngs))(nnx.Rngs(0).split(3))


NNX = {
    "attention": (lambda: nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)), f32(2, 5, 8)),
    "batch norm": (lambda: nnx.BatchNorm(4, rngs=nnx.Rngs(0)), f32(2, 4)),
    "dropout": (
        lambda: nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1))),
        f32(2, 4),
    ),
    "lstm": (lambda: nnx.RNN(nnx.LSTMCell(4, 8, rngs=nnx.Rngs(0))), f32(2, 5, 4)),
    "tied": (nnx_tied, i32(2, 5)),
}


@pytest.mark.parametrize("abstract", [False, True], ids=["concrete", "abstract"])
@pytest.mark.parametrize("name", NNX)
def test_an_nnx_module_has_the_parameters_of_its_param_state(name, abstract):
    make, x = NNX[name]
    module = nnx.eval_shape(make) if abstract else make()
    analysis = costax.analyze(module)(x)
    check(analysis, jax.tree.leaves(nnx.state(module, nnx.Param)))


def test_a_variable_that_nnx_modules_share_counts_once():
    assert costax.analyze(nnx_tied())(i32(2, 5)).params == 16 * 8


def test_an_optimizer_of_nnx_holds_no_parameters():
    def step(model, optimizer, x):
        loss, gradient = nnx.value_and_grad(lambda model: (model(x) ** 2).sum())(model)
        optimizer.update(model, gradient)
        return loss

    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    for function in (step, nnx.jit(step)):
        analysis = costax.analyze(function)(model, optimizer, f32(3, 4))
        check(analysis, jax.tree.leaves(nnx.state(model, nnx.Param)))
        assert analysis.params_by_scope()["Linear"].elements == 4 * 2 + 2
        # Adam works on every parameter, and its results are the caller's.
        assert analysis.by_direction()["update"].flops >= 10 * analysis.params


def test_an_nnx_state_in_a_pure_function_has_parameters():
    graph, state = nnx.split(nnx.BatchNorm(4, rngs=nnx.Rngs(0)))
    for function in (lambda s, x: nnx.merge(graph, s)(x), jax.jit(lambda s, x: nnx.merge(graph, s)(x))):
        assert costax.analyze(function)(state, f32(2, 4)).params == 2 * 4


def test_params_argnums_chooses_among_nnx_modules():
    def both(first, second, x):
        return second(first(x))

    first, second = (nnx.Linear(4, 4, rngs=nnx.Rngs(i)) for i in range(2))
    assert costax.analyze(both)(first, second, f32(2, 4)).params == 2 * (4 * 4 + 4)
    assert costax.analyze(both, params_argnums=1)(first, second, f32(2, 4)).params == 4 * 4 + 4


class EqxTied(eqx.Module):
    embed: eqx.nn.Embedding
    head: eqx.nn.Linear

    def __init__(self, key):
        self.embed = eqx.nn.Embedding(16, 8, key=key)
        head = eqx.nn.Linear(8, 16, use_bias=False, key=key)
        self.head = eqx.tree_at(lambda head: head.weight, head, self.embed.weight)

    def __call__(self, token):
        return self.head(self.embed(token))


class EqxRnn(eqx.Module):
    cell: eqx.nn.LSTMCell

    def __call__(self, xs):
        return lax.scan(lambda state, x: (self.cell(x, state), None), (jnp.zeros(8), jnp.zeros(8)), xs)[0]


EQUINOX = {
    "mlp": (lambda: eqx.nn.MLP(4, 2, 8, 2, key=KEY), (f32(4),)),
    "attention": (lambda: eqx.nn.MultiheadAttention(2, 8, key=KEY), (f32(5, 8),) * 3),
    "lstm": (lambda: EqxRnn(eqx.nn.LSTMCell(4, 8, key=KEY)), (f32(5, 4),)),
    "convolution": (lambda: eqx.nn.Conv2d(3, 8, 3, key=KEY), (f32(3, 8, 8),)),
    "layer norm": (lambda: eqx.nn.LayerNorm(8), (f32(8),)),
    "sequential": (
        lambda: eqx.nn.Sequential(
            [eqx.nn.Linear(4, 4, key=KEY), eqx.nn.Lambda(jax.nn.relu), eqx.nn.Linear(4, 2, key=KEY)]
        ),
        (f32(4),),
    ),
}


@pytest.mark.parametrize("abstract", [False, True], ids=["concrete", "abstract"])
@pytest.mark.parametrize("name", EQUINOX)
def test_an_equinox_module_has_the_parameters_of_its_inexact_leaves(name, abstract):
    make, args = EQUINOX[name]
    module = eqx.filter_eval_shape(make) if abstract else make()
    is_parameter = lambda x: hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)  # noqa: E731
    analysis = costax.analyze(module)(*args)
    check(analysis, [leaf for leaf in jax.tree.leaves(module) if is_parameter(leaf)])
    assert "" not in analysis.params_by_scope()


def test_an_array_that_stands_twice_in_the_arguments_counts_once():
    assert costax.analyze(EqxTied(KEY))(i32()).params == 16 * 8
    w = jnp.ones((4, 4))
    f = lambda params, x: x @ params["a"] @ params["b"]  # noqa: E731
    assert costax.analyze(f, params_argnums=0)({"a": w, "b": w}, f32(2, 4)).params == 4 * 4


def test_one_shape_that_describes_two_parameters_counts_twice():
    w = f32(4, 4)
    f = lambda params, x: x @ params["a"] @ params["b"]  # noqa: E731
    assert costax.analyze(f, params_argnums=0)({"a": w, "b": w}, f32(2, 4)).params == 2 * 4 * 4


def test_an_equinox_ensemble_counts_every_member():
    ensemble = eqx.filter_vmap(lambda key: eqx.nn.MLP(4, 2, 8, 1, key=key))(jax.random.split(KEY, 7))
    evaluate = lambda model, x: eqx.filter_vmap(lambda m: m(x))(model)  # noqa: E731
    analysis = costax.analyze(evaluate)(ensemble, f32(4))
    assert analysis.params == 7 * (4 * 8 + 8 + 8 * 2 + 2)
    assert analysis.total.macs == 7 * (4 * 8 + 8 * 2)


def test_the_state_of_an_equinox_module_is_no_parameter():
    model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, axis_name="batch", mode="batch")
    apply = lambda model, state, x: jax.vmap(  # noqa: E731
        model, axis_name="batch", in_axes=(0, None), out_axes=(0, None)
    )(x, state)
    assert costax.analyze(apply)(model, state, f32(3, 4)).params == 2 * 4


def test_the_moments_of_an_optimizer_are_no_parameters():
    model = eqx.nn.MLP(4, 2, 8, 2, key=KEY)
    optimizer = optax.adamw(1e-3)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    def step(model, state, x):
        loss, gradient = eqx.filter_value_and_grad(lambda model: jax.vmap(model)(x).sum())(model)
        updates, state = optimizer.update(gradient, state, model)
        return eqx.apply_updates(model, updates), state, loss

    for function in (step, eqx.filter_jit(step)):
        analysis = costax.analyze(function)(model, state, f32(3, 4))
        check(analysis, jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
        assert {scope: part.elements for scope, part in analysis.params_by_scope().items()} == {
            "MLP/layers/0": 4 * 8 + 8,
            "MLP/layers/1": 8 * 8 + 8,
            "MLP/layers/2": 8 * 2 + 2,
        }


def haiku_lstm(x):
    return hk.dynamic_unroll(hk.LSTM(8), x, hk.LSTM(8).initial_state(2))[0]


HAIKU = {
    "lstm": (haiku_lstm, f32(5, 2, 4)),
    "mlp": (lambda x: hk.nets.MLP([8, 2])(x), f32(3, 4)),
    "attention": (
        lambda x: hk.MultiHeadAttention(2, 4, w_init=hk.initializers.VarianceScaling())(x, x, x),
        f32(2, 5, 8),
    ),
    "resnet": (lambda x: hk.nets.ResNet18(10)(x, is_training=True), f32(2, 32, 32, 3)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", HAIKU)
def test_a_haiku_function_has_the_parameters_that_its_init_makes(name):
    function, x = HAIKU[name]
    transformed = hk.transform_with_state(function)
    params, _ = jax.eval_shape(transformed.init, KEY, x)
    analysis = costax.analyze(transformed)(x)
    check(analysis, jax.tree.leaves(params))
    assert "" not in analysis.params_by_scope()


# Where a parameter is used first.


def test_a_cast_at_the_root_does_not_catch_a_parameter():
    def f(params, x):
        params = jax.tree.map(lambda w: w.astype(jnp.bfloat16).T, params)
        for name, w in params.items():
            with jax.named_scope(name):
                x = x @ w
        return x

    params = {"a": f32(4, 4), "b": f32(4, 4)}
    scopes = costax.analyze(f, params_argnums=0)(params, costax.spec("bf16[2,4]")).params_by_scope()
    assert {scope: part.elements for scope, part in scopes.items()} == {"a": 16, "b": 16}


def test_a_cast_inside_a_jitted_function_does_not_catch_a_parameter():
    cast = jax.jit(lambda w: w.astype(jnp.bfloat16))

    def f(w, x):
        w = cast(w)
        with jax.named_scope("layer"):
            return x @ w

    assert set(costax.analyze(f, params_argnums=0)(f32(4, 4), costax.spec("bf16[2,4]")).params_by_scope()) == {"layer"}


def test_weight_decay_outside_the_layers_does_not_catch_a_parameter():
    def loss(w, x):
        decay = (w**2).sum()
        with jax.named_scope("layer"):
            return decay + (x @ w).sum()

    assert set(costax.analyze(loss, params_argnums=0)(f32(4, 4), f32(2, 4)).params_by_scope()) == {"layer"}


def test_parameters_pass_through_loops_and_branches():
    def f(params, x):
        def body(carry, w):
            x, bias = carry
            with jax.named_scope("layer"):
                return (lax.cond(x.sum() > 0, lambda: x @ w, lambda: x - w.sum()), bias), None

        with jax.named_scope("stack"):
            x, bias = lax.scan(body, (x, params["bias"]), params["w"])[0]
        with jax.named_scope("head"):
            return x + bias

    analysis = costax.analyze(f, params_argnums=0)({"w": f32(6, 4, 4), "bias": f32(4)}, f32(2, 4))
    assert {s: p.elements for s, p in analysis.params_by_scope().items()} == {"stack/layer": 6 * 16, "head": 4}


def test_a_parameter_that_nothing_uses_stands_in_the_scope_without_a_name():
    def f(params, x):
        with jax.named_scope("layer"):
            return x @ params["used"]

    scopes = costax.analyze(f, params_argnums=0)({"used": f32(4, 4), "unused": f32(7)}, f32(2, 4)).params_by_scope()
    assert {scope: part.elements for scope, part in scopes.items()} == {"layer": 16, "": 7}


def test_parameters_are_unknown_where_nobody_said_which_they_are():
    analysis = costax.analyze(lambda w, x: x @ w)(f32(4, 4), f32(2, 4))
    assert analysis.params is None
    assert analysis.param_bytes is None


def test_params_argnums_takes_several_and_counts_from_the_end():
    f = lambda a, b, x: x @ a @ b  # noqa: E731
    args = f32(4, 4), f32(4, 2), f32(3, 4)
    assert costax.analyze(f, params_argnums=(0, 1))(*args).params == 16 + 8
    assert costax.analyze(f, params_argnums=-2)(*args).params == 8
    assert costax.analyze(jax.jit(f), params_argnums=1)(*args).params == 8


def test_parameters_are_numbered_as_the_caller_numbers_them_beside_static_arguments():
    f = jax.jit(lambda n, w, x, k: x @ w * n * k, static_argnums=0, static_argnames="k")
    assert costax.analyze(f, params_argnums=1)(2, f32(4, 4), f32(3, 4), k=3).params == 16


def test_a_train_state_of_flax_knows_its_parameters():
    module = nn.Dense(3)
    params = jax.eval_shape(module.init, KEY, f32(2, 4))["params"]
    state = jax.eval_shape(lambda p: TrainState.create(apply_fn=module.apply, params=p, tx=optax.adam(1e-3)), params)

    def step(state, x):
        gradient = jax.grad(lambda p: (state.apply_fn({"params": p}, x) ** 2).sum())(state.params)
        return state.apply_gradients(grads=gradient)

    assert costax.analyze(step)(state, f32(2, 4)).params == 4 * 3 + 3


def test_parameters_keep_their_dtypes_apart():
    f = lambda p, x: x @ p["w"].astype(jnp.float32) * p["s"]  # noqa: E731
    params = {"w": costax.spec("i8[4,4]"), "s": costax.spec("f32[4]")}
    sizes = costax.analyze(f, params_argnums=0)(params, f32(2, 4)).params_by_dtype()
    assert {dtype: (size.elements, size.nbytes) for dtype, size in sizes.items()} == {"i8": (16, 16), "f32": (4, 16)}
