"""Everything that can be analysed, every kind of argument, and what happens when they do not fit."""

import enum
import functools
import json
import tracemalloc
from dataclasses import dataclass

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from flax import nnx
from jax import lax

import costax
from costax.cli.app import main
from costax.errors import InputError, TargetError
from costax.program.trace import trace

KEY = jax.random.key(0)


def f32(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def matmul(w, x):
    return x @ w


W, X = f32(8, 3), f32(4, 8)
MACS = 4 * 8 * 3


class Product:
    def __call__(self, w, x):
        return x @ w

    def method(self, w, x):
        return x @ w


CALLABLES = {
    "function": matmul,
    "lambda": lambda w, x: x @ w,
    "jitted": jax.jit(matmul),
    "donating": jax.jit(matmul, donate_argnums=0),
    "partial": functools.partial(matmul),
    "callable object": Product(),
    "bound method": Product().method,
    "checkpointed": jax.checkpoint(matmul),
    "filter_jitted": eqx.filter_jit(matmul),
    "nnx-jitted": nnx.jit(matmul),
    "jax function": lambda w, x: jnp.matmul(x, w),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_whatever_can_be_called_can_be_analysed(name):
    assert costax.analyze(CALLABLES[name])(W, X).total.macs == MACS


TRACED = {
    "Traced": lambda: jax.jit(matmul).trace(W, X),
    "ClosedJaxpr": lambda: jax.make_jaxpr(matmul)(W, X),
    "open jaxpr": lambda: jax.make_jaxpr(matmul)(W, X).jaxpr,
    "Target": lambda: costax.Target(matmul, (W, X)),
    "Target of a Traced": lambda: costax.Target(jax.jit(matmul).trace(W, X)),
}


@pytest.mark.parametrize("name", TRACED)
def test_what_carries_its_arguments_needs_none(name):
    assert costax.analyze(TRACED[name]())().total.macs == MACS
    with pytest.raises(InputError, match=r"already has its arguments, and got 1 more"):
        costax.analyze(TRACED[name]())(X)


@pytest.mark.parametrize("name", TRACED)
def test_params_argnums_works_on_what_carries_its_arguments(name):
    assert costax.analyze(TRACED[name](), params_argnums=0)().params == 8 * 3


def test_a_target_says_which_arguments_are_parameters():
    target = costax.Target(lambda w, x, scale: scale * (x @ w), (W, X), {"scale": 2.0}, params_argnums=0)
    analysis = costax.analyze(target)()
    assert (analysis.total.macs, analysis.params) == (MACS, 8 * 3)


@pytest.mark.parametrize("stage", ["Lowered", "Compiled"])
def test_a_stage_without_a_jaxpr_is_the_module_that_it_holds(stage):
    lowered = jax.jit(matmul).lower(W, X)
    program = lowered if stage == "Lowered" else lowered.compile()
    assert costax.analyze(program)().executed.flops == 2 * MACS
    assert costax.compare(program)().matches_xla is True


@pytest.mark.parametrize("nothing", [None, 3, "resnet18", [], {}, jnp.float32(1)])
def test_what_cannot_be_called_is_an_error(nothing):
    with pytest.raises(TargetError, match="costax cannot analyse"):
        costax.analyze(nothing)(X)


# Modules.

MODULES = {
    "linen": lambda: nn.Dense(3, use_bias=False),
    "linen, bound": lambda: nn.Dense(3, use_bias=False).bind({"params": {"kernel": W}}),
    "nnx": lambda: nnx.Linear(8, 3, use_bias=False, rngs=nnx.Rngs(0)),
    "nnx, abstract": lambda: nnx.eval_shape(lambda: nnx.Linear(8, 3, use_bias=False, rngs=nnx.Rngs(0))),
    "equinox": lambda: eqx.filter_vmap(eqx.nn.Linear(8, 3, use_bias=False, key=KEY), in_axes=(0,)),
    "haiku": lambda: hk.transform(lambda x: hk.Linear(3, with_bias=False)(x)),
    "haiku, no rng": lambda: hk.without_apply_rng(hk.transform(lambda x: hk.Linear(3, with_bias=False)(x))),
    "haiku, state": lambda: hk.transform_with_state(lambda x: hk.Linear(3, with_bias=False)(x)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_a_target_and_knows_its_parameters(name):
    analysis = costax.analyze(MODULES[name]())(X)
    assert analysis.total.macs == MACS
    assert analysis.params == 8 * 3


def test_the_apply_of_a_module_is_a_target_jitted_or_not():
    module = nn.Dense(3, use_bias=False)
    variables = jax.eval_shape(module.init, KEY, X)
    transformed = hk.transform(lambda x: hk.Linear(3, with_bias=False)(x))
    params = jax.eval_shape(transformed.init, KEY, X)
    for wrap in (lambda f: f, jax.jit):
        assert costax.analyze(wrap(module.apply))(variables, X).params == 8 * 3
        assert costax.analyze(wrap(transformed.apply))(params, KEY, X).params == 8 * 3


def test_a_method_of_a_bound_linen_module_is_a_target():
    class Coder(nn.Module):
        def setup(self):
            self.encoder, self.decoder = nn.Dense(4), nn.Dense(8)

        def __call__(self, x):
            return self.decoder(self.encoder(x))

        def encode(self, x):
            return self.encoder(x)

    variables = jax.eval_shape(Coder().init, KEY, X)
    analysis = costax.analyze(Coder().bind(variables).encode)(X)
    assert analysis.total.macs == 4 * 8 * 4
    assert costax.analyze(Coder())(X, method="encode").total.macs == 4 * 8 * 4


def test_a_method_of_an_nnx_module_is_a_target():
    class Coder(nnx.Module):
        def __init__(self, rngs):
            self.encoder = nnx.Linear(8, 4, rngs=rngs)

        def encode(self, x):
            return self.encoder(x)

    analysis = costax.analyze(Coder(nnx.Rngs(0)).encode)(X)
    assert {scope: cost.macs for scope, cost in analysis.by_scope().items()} == {"Coder/encoder": 4 * 8 * 4}


def test_a_multi_transformed_function_with_several_doors_asks_which():
    def coder():
        encoder, decoder = hk.Linear(4), hk.Linear(8)

        def init(x):
            return decoder(encoder(x))

        return init, {"encode": encoder, "decode": decoder}

    multi = hk.multi_transform(coder)
    with pytest.raises(TargetError, match="2 apply functions"):
        costax.analyze(multi)(X)
    params = jax.eval_shape(multi.init, KEY, X)
    assert costax.analyze(multi.apply["encode"])(params, KEY, X).total.macs == 4 * 8 * 4


def test_python_arguments_of_modules_are_static():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, repeat, mode="linear", train=True):
            for _ in range(repeat):
                x = nn.Dense(8)(x)
            return x if mode == "linear" and not train else nn.relu(x)

    analysis = costax.analyze(Net())(X, 3, mode="linear", train=False)
    assert analysis.total.macs == 3 * 4 * 8 * 8

    class Other(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x, repeat, *, train):
            for _ in range(repeat if train else 0):
                x = self.layer(x)
            return x

    assert costax.analyze(Other(nnx.Rngs(0)))(X, 3, train=True).total.macs == 3 * 4 * 8 * 8


def test_dropout_in_a_linen_module_needs_no_key_from_the_caller():
    dropout = nn.Dropout(0.5, deterministic=False)
    assert costax.analyze(dropout)(X).total.ops > 0
    assert costax.analyze(dropout)(X, rngs={"dropout": KEY}).total == costax.analyze(dropout)(X).total


# Arguments.


class Mode(enum.Enum):
    DOUBLE = 2


@jax.tree_util.register_dataclass
@dataclass
class Batch:
    x: jax.Array
    name: str
    activation: object


def test_leaves_that_are_no_arrays_are_held_static():
    def f(batch, mode, options):
        assert batch.name == "train"
        assert options["rate"] is None
        out = batch.activation(batch.x @ options["w"])
        return Batch(out * mode.value, "done", jnp.tanh)

    batch = Batch(X, "train", jnp.tanh)
    analysis = costax.analyze(f)(batch, Mode.DOUBLE, {"w": W, "rate": None, "dtype": jnp.float32})
    assert analysis.total.macs == MACS
    assert analysis.total.transcendentals == 4 * 3


def test_static_arguments_are_those_of_jit():
    def f(n, x, power=1):
        for _ in range(n):
            x = x @ x
        return x**power

    square = f32(4, 4)
    assert costax.analyze(f, static_argnums=0)(3, square).total.macs == 3 * 4**3
    assert costax.analyze(f, static_argnums=(0,), static_argnames="power")(3, square, power=2).total.macs == 3 * 4**3
    assert (
        costax.analyze(jax.jit(f, static_argnums=0, static_argnames="power"))(3, square, power=2).total.macs == 3 * 4**3
    )
    assert costax.analyze(jax.jit(f, static_argnames=("n", "power")))(n=2, x=square).total.macs == 2 * 4**3


def test_keyword_arguments_are_traced():
    assert costax.analyze(matmul)(w=W, x=X).total.macs == MACS
    assert [path for path, _ in costax.analyze(matmul)(w=W, x=X).inputs] == ["1/w", "1/x"]


def as_jit_sees(*args):
    return [v.aval for v in jax.jit(lambda *args: args).trace(*args).jaxpr.jaxpr.invars]


ARGUMENTS = {
    "numpy": np.ones((4, 8), np.float32),
    "numpy, 64 bits": np.ones((4, 8)),
    "numpy scalar": np.float64(2),
    "int": 3,
    "float": 2.5,
    "bool": True,
    "complex": 2j,
    "concrete": np.ones((2,), np.int8),
    "typed key": KEY,
    "raw key": jax.random.PRNGKey(0),
    "spec": costax.spec("bf16[4,8]"),
    "key spec": costax.spec("key<fry>[]"),
    "abstract, 64 bits": jax.ShapeDtypeStruct((3,), np.int64),
}


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("x64", [False, True], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_have_the_dtypes_that_jit_gives_them(name, x64):
    with jax.enable_x64(x64):
        traced = trace(lambda x: (x,), (ARGUMENTS[name],), {}).jaxpr
        (aval,) = [v.aval for v in traced.jaxpr.invars]
        assert [aval] == as_jit_sees(ARGUMENTS[name])
        assert aval.weak_type == as_jit_sees(ARGUMENTS[name])[0].weak_type


def test_a_python_number_stays_weak():
    analysis = costax.analyze(lambda x, rate: x * rate)(costax.spec("bf16[8]"), 0.1)
    assert set(analysis.total.by_dtype()) <= {"bf16", "f32"}
    assert analysis.total.by_dtype()["bf16"].flops == 8


def test_random_keys_of_both_kinds_are_arguments():
    def f(key):
        return jax.random.normal(key, (16,))

    typed, raw = costax.analyze(f)(KEY), costax.analyze(f)(jax.random.PRNGKey(0))
    assert (
        typed.total.transcendentals
        == raw.total.transcendentals
        == costax.analyze(f)(costax.spec("key<fry>[]")).total.transcendentals
    )


def test_a_committed_array_keeps_its_sharding():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x = jax.device_put(np.ones((4, 8), np.float32), sharding)
    w = jax.ShapeDtypeStruct(
        (8, 3), jnp.float32, sharding=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    )
    assert costax.analyze(matmul)(w, x).total.macs == MACS


def test_donated_arguments_stay_donated():
    program = trace(jax.jit(matmul, donate_argnums=0), (W, X), {})
    assert program.traced.donate_argnums == (0,)


def test_constants_that_jax_hoists_have_no_path():
    table = np.ones((64, 64), np.float32)
    program = trace(lambda x: x @ table, (f32(4, 64),), {})
    assert [path for path, _ in program.inputs if path] == ["0/0"]


def test_nothing_is_executed():
    ran = []

    def f(x):
        return jax.pure_callback(lambda x: ran.append(1) or x, f32(4), x)

    costax.analyze(f)(f32(4))
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled"))
        costax.analyze(nn.Dense(3))(X)
    assert not ran


def test_nothing_is_allocated():
    # 4 TiB of weights.
    big = f32(2**20, 2**20)
    tracemalloc.start()
    analysis = costax.analyze(lambda w, x: lax.map(lambda row: row @ w, x), params_argnums=0)(big, f32(16, 2**20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert analysis.total.macs == 16 * 2**40
    assert analysis.param_bytes == 4 * 2**40
    assert peak < 2**26


def test_concrete_arrays_are_not_copied():
    x = np.broadcast_to(np.float32(1), (2**20, 2**20))
    assert costax.analyze(lambda x: x * 2)(x).total.flops == 2**40


# Arguments that do not fit.


def test_shapes_that_do_not_fit_give_jaxs_message_and_ours():
    with pytest.raises(InputError) as error:
        costax.analyze(matmul)({"kernel": W}["kernel"], f32(4, 7))
    message = str(error.value)
    assert "`matmul` does not accept these arguments: TypeError: dot_general requires" in message
    assert f"test_targets.py:{matmul.__code__.co_firstlineno + 1}" in message
    assert "argument 0: f32[8,3], argument 1: f32[4,7]" in message


@pytest.mark.parametrize("jitted", [False, True])
def test_a_wrong_number_of_arguments_gives_one_message(jitted):
    with pytest.raises(InputError, match=r"missing a required argument|missing 1 required positional"):
        costax.analyze(jax.jit(matmul) if jitted else matmul)(W)


def test_a_string_for_a_jitted_function_gives_one_message():
    with pytest.raises(InputError, match=r"argument 1: 'relu'"):
        costax.analyze(jax.jit(matmul))(W, "relu")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_which_arguments_it_was_given(name):
    with pytest.raises(InputError, match=r"argument 0: f32\[\]"):
        costax.analyze(MODULES[name]())(f32())


def test_params_argnums_beyond_the_arguments_is_an_error():
    with pytest.raises(InputError, match="params_argnums has 2, but"):
        costax.analyze(matmul, params_argnums=2)(W, X)


def test_the_line_of_an_error_is_the_users_and_not_the_librarys():
    def f(x):
        return nnx.Linear(8, 3, rngs=nnx.Rngs(0))(x)

    with pytest.raises(InputError) as error:
        costax.analyze(f)(f32(4, 7))
    assert error.value.where == f"{__file__}:{f.__code__.co_firstlineno + 1}"


def test_a_long_list_of_arguments_is_cut():
    with pytest.raises(InputError, match=r"argument 0, 11: f32\[1\] and 88 more"):
        costax.analyze(lambda params: params.missing)([f32(1)] * 100)


def test_an_error_of_the_function_itself_is_told_with_its_kind():
    def f(x):
        return {}["missing"]

    with pytest.raises(InputError, match="KeyError: 'missing'"):
        costax.analyze(f)(X)


# Exported functions.


def exported(*shape):
    return jax.export.export(jax.jit(network))(f32(*shape), W)


def network(x, w):
    return jnp.tanh(x @ w)


def test_an_exported_function_counts_its_call():
    function = exported(4, 8)
    called = costax.analyze(function.call)(X, W)
    for analysis in (costax.analyze(function)(X, W), costax.analyze(function)()):
        assert analysis.total == called.total
        assert analysis.total.macs == 4 * 8 * 3
        assert analysis.name == "network"
    assert costax.analyze(function, params_argnums=1)().params == 8 * 3
    assert costax.compare(function)().xla["transcendentals"] == 4 * 3


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_an_exported_function_with_symbolic_sizes_takes_the_sizes_of_its_arguments(batch):
    (b,) = jax.export.symbolic_shape("b")
    function = exported(b, 8)
    assert costax.analyze(function)(f32(batch, 8), W).total.macs == batch * 8 * 3
    with pytest.raises(InputError, match="has symbolic sizes, and got no arguments"):
        costax.analyze(function)()


def test_an_exported_function_as_a_target_of_the_command_line(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        "import jax, jax.numpy as jnp\n"
        "function = jax.export.export(jax.jit(jnp.sin))(jax.ShapeDtypeStruct((4, 8), jnp.float32))\n"
        "def made():\n"
        "    return function, ()\n"
    )
    for name, inputs in (("made", []), ("function", ["--input", "f32[4,8]"])):
        done = CliRunner().invoke(main, ["analyze", f"{path}:{name}", "--json", *inputs])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["total"]["transcendentals"] == 4 * 8


class Long:
    def __repr__(self):
        return "a very long\ntext " * 100


def test_what_is_no_program_is_named_in_one_line():
    with pytest.raises(TargetError) as caught:
        costax.analyze(Long())(X)
    assert len(caught.value.what) < 150
    assert "\n" not in caught.value.what
