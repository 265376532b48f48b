"""Programs of PyTorch: the paths of modules are scopes, named parameters are parameters, and no weight is copied."""

import importlib.util
import subprocess
import sys
import threading

import jax
import pytest

pytest.importorskip("torch", reason="torch is not installed; nox -s torch runs these tests")
if importlib.util.find_spec("torchax") is None:
    pytest.skip("torchax is not installed; nox -s torch runs these tests", allow_module_level=True)

import torch
from torch import nn
from torch.nn import functional as F

import costax
from costax.errors import InputError, TargetError, install_command

pytestmark = [
    pytest.mark.xdist_group("torch"),
    # Warnings of torch, torchvision and transformers at their import and of torch's own modules.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def meta(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype, device="meta")


def macs(analysis):
    return {scope: cost.macs for scope, cost in analysis.by_scope().items() if cost.macs}


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(8) for _ in range(2)])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return {"logits": self.head(x), "hidden": [x]}


BY_LAYER = {
    "blocks/0/up": 5 * 8 * 32,
    "blocks/0/down": 5 * 32 * 8,
    "blocks/1/up": 5 * 8 * 32,
    "blocks/1/down": 5 * 32 * 8,
    "head": 5 * 8 * 3,
}
PARAMETERS = 2 * (8 * 32 + 32 + 32 * 8 + 8) + 8 * 3 + 3


@pytest.mark.parametrize(
    "argument",
    [meta(5, 8), torch.zeros(5, 8), costax.spec("f32[5,8]"), jax.ShapeDtypeStruct((5, 8), "float32")],
    ids=["meta", "cpu", "spec", "struct"],
)
def test_a_module_has_the_paths_of_its_layers_as_scopes(argument):
    analysis = costax.analyze(Net())(argument)
    assert macs(analysis) == BY_LAYER
    assert (analysis.params, analysis.name, analysis.exact) == (PARAMETERS, "Net", True)


def test_the_scopes_survive_the_gradient():
    apply, parameters, buffers = costax.from_torch(Net())

    def loss(parameters, buffers, x):
        return apply(parameters, buffers, x)["logits"].sum()

    gradient = costax.analyze(jax.value_and_grad(loss), params_argnums=0)(parameters, buffers, costax.spec("f32[5,8]"))
    # Of each layer the weight gradient and the input gradient cost as much as the forward pass; the input of the
    # program needs no gradient.
    expected = {scope: 3 * count for scope, count in BY_LAYER.items()}
    expected["blocks/0/up"] = 2 * BY_LAYER["blocks/0/up"]
    assert macs(gradient) == expected
    assert gradient.params == PARAMETERS
    assert gradient.by_direction()["backward"].macs == sum(expected.values()) - sum(BY_LAYER.values())


def test_functions_of_torchax_have_scopes_and_parameters():
    import torchax

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    states, function = torchax.extract_jax(model)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), states)
    analysis = costax.analyze(function)(shapes, (costax.spec("f32[2,3,8,8]"),))
    assert macs(analysis) == {"0": 2 * 6 * 6 * 4 * 3 * 3 * 3}
    assert analysis.params == 3 * 4 * 9 + 4 + 2 * 4

    def loss(parameters, buffers, x):
        return function({**parameters, **buffers}, (x,)).sum()

    names = dict(model.named_parameters())
    parameters = {name: shape for name, shape in shapes.items() if name in names}
    buffers = {name: shape for name, shape in shapes.items() if name not in names}
    gradient = costax.analyze(jax.grad(loss), params_argnums=0)(parameters, buffers, costax.spec("f32[2,3,8,8]"))
    assert set(gradient.by_scope()) >= {"0", "1"}
    assert not any("aten" in scope for scope in gradient.by_scope())


def test_sources_are_lines_of_the_user_and_not_of_torch():
    sources = costax.analyze(Net())(meta(5, 8)).by_source()
    assert all(source.startswith(__file__) for source, cost in sources.items() if cost.macs)


def test_buffers_are_no_parameters_and_shared_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.norm = nn.BatchNorm1d(4)
            self.out = nn.Linear(4, 10, bias=False)
            self.out.weight = self.embed.weight
            self.scale = torch.ones(4)  # neither a parameter nor a buffer

        def forward(self, tokens):
            return self.out(self.norm(self.embed(tokens) * self.scale + torch.ones(4)))

    analysis = costax.analyze(Tied())(meta(6, dtype=torch.int64))
    assert analysis.params == 10 * 4 + 2 * 4
    assert macs(analysis) == {"out": 6 * 4 * 10}


def test_the_module_and_torch_are_the_same_afterwards():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    values = {name: (id(tensor), tensor.clone()) for name, tensor in model.named_parameters()}
    call, fused = nn.Module.__call__, torch.backends.mha.get_fastpath_enabled()
    attributes = [dict(vars(module)) for module in model.modules()]
    analysis = costax.analyze(model)(meta(3, 4))
    assert analysis.total.transcendentals  # the statistics of the batch
    assert nn.Module.__call__ is call
    assert torch.backends.mha.get_fastpath_enabled() is fused
    assert [dict(vars(module)) for module in model.modules()] == attributes
    for name, tensor in model.named_parameters():
        assert id(tensor) == values[name][0]
        assert torch.equal(tensor, values[name][1])
    assert model(torch.zeros(3, 4)).shape == (3, 4)
    with pytest.raises(InputError):
        costax.analyze(model)(meta(3, 5))
    assert [dict(vars(module)) for module in model.modules()] == attributes
    assert nn.Module.__call__ is call


def test_other_threads_run_the_module_class_unchanged_during_a_trace():
    results = []

    class Waiting(nn.Module):
        def forward(self, x):
            other = nn.Linear(2, 2)
            thread = threading.Thread(target=lambda: results.append(other(torch.zeros(1, 2))))
            thread.start()
            thread.join()
            return x * 2

    costax.analyze(Waiting())(meta(3))
    assert [type(result) for result in results] == [torch.Tensor]


def test_a_function_of_modules_names_them_by_its_variables():
    generator, critic = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 1))

    def game(make, judge, x):
        return judge(make(x))

    analysis = costax.analyze(game)(generator, critic, meta(3, 4))
    assert macs(analysis) == {"make": 3 * 4 * 8, "judge/0": 3 * 8 * 2, "judge/1": 3 * 2}
    assert analysis.params == 4 * 8 + 8 + 8 * 2 + 2 + 2 + 1
    closed = costax.analyze(lambda x: F.mse_loss(critic(generator(x)), x[:, :1]))(meta(3, 4))
    assert macs(closed) == {"generator": 3 * 4 * 8, "critic/0": 3 * 8 * 2, "critic/1": 3 * 2}
    assert closed.params == analysis.params


def test_functions_and_methods_of_torch_are_programs():
    assert costax.analyze(torch.matmul)(meta(3, 4), meta(4, 5)).total.macs == 3 * 4 * 5
    assert macs(costax.analyze(Net().head.forward)(meta(5, 8))) == {"": 5 * 8 * 3}


def test_random_numbers_of_dropout_leave_nothing_behind():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    first, second = (costax.analyze(model)(meta(2, 4)).total for _ in range(2))
    assert first == second
    assert costax.analyze(model.eval())(meta(2, 4)).total.macs == 2 * 4 * 4


def test_formulas_come_from_concrete_sizes():
    analysis = costax.analyze(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))(costax.spec("f32[b,3,s,s]; s >= 3"))
    for b, s in ((1, 3), (2, 9), (5, 16)):
        assert analysis.total.macs(b=b, s=s) == b * (s - 2) ** 2 * 8 * 3 * 9
    assert analysis.exact_by == "interpolation"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_of_the_module_counts(dtype):
    analysis = costax.analyze(nn.Linear(4, 8, dtype=dtype))(meta(3, 4, dtype=dtype))
    assert analysis.by_dtype()[{torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]].macs == 3 * 4 * 8


def test_64_bits_without_x64_are_a_warning_that_names_the_setting():
    with pytest.warns(UserWarning, match="jax_enable_x64"):
        costax.analyze(nn.Linear(4, 8).double())(meta(3, 4, dtype=torch.float64))


def test_faults_are_errors_that_say_what_to_do():
    with pytest.raises(TargetError, match="lazy"):
        costax.analyze(nn.LazyLinear(3))(meta(2, 3))
    with pytest.raises(TargetError, match="from_torch needs a module"):
        costax.from_torch(torch.matmul)
    with pytest.raises(InputError, match="argument 0"):
        costax.analyze(Net())(meta(5, 9))


def test_without_torchax_the_error_names_it(tmp_path):
    program = (
        "import sys; sys.modules['torchax'] = None\n"
        "import torch, costax\n"
        "try: costax.analyze(torch.nn.Linear(2, 2))(torch.zeros(1, 2))\n"
        "except costax.errors.TargetError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "torchax is not installed" in run.stdout
    assert install_command("torch") in run.stdout


def test_the_table_by_module_has_type_output_params_and_macs():
    analysis = costax.analyze(Net())(meta(5, 8))
    from costax.report.tables import table

    shown = table(analysis, by="module")
    cells = {(line.depth, line.label): line.cells for line in shown.lines}
    assert shown.columns[:3] == ("type", "output", "MACs")
    params = shown.columns.index("params")
    assert cells[0, "blocks/0"][:3] == ("Block", "[5, 8]", "2.56 k")
    assert cells[0, "blocks/0"][params] == str(8 * 32 + 32 + 32 * 8 + 8)
    assert cells[1, "up"][:3] == ("Linear", "[5, 32]", "1.28 k")
    assert (cells[0, "head"][:3], cells[0, "head"][params]) == (("Linear", "[5, 3]", "120"), "27")
    assert shown.total.cells[:2] == ("Net", "[5, 3]")


# What the tools print, run on the CPU with torch 2.12.1: fvcore 0.1.5.post20221221, thop 0.1.1, torchinfo 1.8.0.
MEASURED = {
    "lstm": (lambda: nn.LSTM(64, 64, batch_first=True), [(1, 100, 64)], 0, 3_379_200, 3_328_000),
    "bidirectional lstm": (
        lambda: nn.LSTM(64, 32, 2, batch_first=True, bidirectional=True),
        [(4, 10, 64)],
        0,
        2_048_000,
        2_007_040,
    ),
    "lstm without biases": (lambda: nn.LSTM(5, 7, bias=False, batch_first=True), [(1, 3, 5)], 0, 1_176, 1_008),
    "gru": (lambda: nn.GRU(64, 64, batch_first=True), [(1, 100, 64)], 0, 2_540_800, 2_496_000),
    "odd gru": (lambda: nn.GRU(5, 7, batch_first=True), [(3, 3, 5)], 0, 3_087, 2_646),
    "gru without biases": (lambda: nn.GRU(5, 7, bias=False, batch_first=True), [(3, 3, 5)], 0, 2_709, 2_268),
    "rnn": (lambda: nn.RNN(5, 7, batch_first=True), [(3, 3, 5)], 0, 945, 882),
    "attention": (lambda: nn.MultiheadAttention(192, 3, batch_first=True), [(1, 197, 192)] * 3, 43_951_488, 0, 0),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, batch_first=True), 2),
        [(1, 10, 64)],
        5_583_360,
        5_253_120,
        529_024,
    ),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", MEASURED)
def test_other_tools_are_met_on_recurrent_and_attention_modules(name):
    make, shapes, fvcore, thop, torchinfo = MEASURED[name]
    analysis = costax.analyze(make().eval())(*(meta(*shape) for shape in shapes))
    assert (analysis.as_("fvcore"), analysis.as_("thop"), analysis.as_("torchinfo")) == (fvcore, thop, torchinfo)


class OwnLSTM(nn.LSTM):
    """A subclass, whose operation is that of nn.LSTM but whose class is another."""


# What the tools of MEASURED print, and FlopCounterMode of torch 2.12.1; None where costax says that it cannot be told.
RECURRENT = {
    "relu": (lambda: nn.RNN(5, 7, nonlinearity="relu", batch_first=True), (3, 3, 5), 1_512, 0, 945, 882),
    "rnn without biases": (lambda: nn.RNN(5, 7, bias=False, batch_first=True), (3, 3, 5), 1_512, 0, 819, 756),
    "two layers": (lambda: nn.GRU(5, 7, 2, bidirectional=True, batch_first=True), (3, 3, 5), 24_948, 0, 15_750, 13_986),
    "steps first": (lambda: nn.LSTM(5, 7), (4, 3, 5), 0, 0, 5_376, 4_704),
    "subclass": (lambda: OwnLSTM(5, 7, batch_first=True), (3, 3, 5), 0, 0, 0, 3_528),
    "lstm cell": (lambda: nn.LSTMCell(5, 7), (3, 5), 2_016, 1_008, 1_344, None),
    "gru cell": (lambda: nn.GRUCell(5, 7), (3, 5), 1_512, 756, 1_029, None),
    "gru cell without biases": (lambda: nn.GRUCell(5, 7, bias=False), (3, 5), 1_512, 756, 903, None),
    "rnn cell": (lambda: nn.RNNCell(5, 7), (3, 5), 504, 252, 315, None),
    "projections": (lambda: nn.LSTM(5, 7, proj_size=3, batch_first=True), (3, 3, 5), None, None, None, None),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_other_tools_are_met_on_recurrent_modules_of_each_kind_or_refused(name):
    make, shape, *printed = RECURRENT[name]
    analysis = costax.analyze(make().eval())(meta(*shape))
    for tool, figure in zip(("torch", "fvcore", "thop", "torchinfo"), printed, strict=True):
        if figure is None:
            with pytest.raises(InputError, match="cannot be told"):
                analysis.as_(tool)
        else:
            assert analysis.as_(tool) == figure, tool


# FlopCounterMode of torch 2.12.1 on a CPU, forward and backward, without the gradient of the input.
@pytest.mark.parametrize(("module", "printed"), [(nn.LSTM, 0), (nn.GRU, 10_836), (nn.RNN, 3_612)])
def test_torch_counts_gradients_of_recurrent_modules_as_it_did(module, printed):
    apply, parameters, buffers = costax.from_torch(module(5, 7, batch_first=True))

    def loss(parameters, buffers, x):
        return apply(parameters, buffers, x)[0].sum()

    gradient = costax.analyze(jax.value_and_grad(loss), params_argnums=0)
    assert gradient(parameters, buffers, costax.spec("f32[3,3,5]")).as_("torch") == printed


def test_an_attention_module_of_torch_counts_as_one_of_flax():
    # The figures of tests/analysis/test_other_tools.py, which the tools printed for nn.MultiheadAttention(64, 4).
    module = nn.MultiheadAttention(64, 4, batch_first=True).eval()
    one, two = (costax.analyze(module)(*[meta(batch, 10, 64)] * 3) for batch in (1, 2))
    assert {tool: one.as_(tool) for tool in ("ptflops", "ptflops:aten")} == {
        "ptflops": 193_440,
        "ptflops:aten": 179_200,
    }
    printed = {"fvcore": 353_280, "deepspeed:macs": 353_280, "calflops:macs": 327_680, "thop": 0, "torchinfo": 0}
    assert {tool: two.as_(tool) for tool in printed} == printed


# --- torchvision and transformers ---

VISION = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
LANGUAGE = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")

# MACs of torchvision's own table (weights.meta["_ops"], in units of 1e9), parameters of its documentation, and what
# fvcore, thop and torchinfo print for the model in evaluation mode on f32[1,3,224,224].
MODELS = {
    "resnet18": (1_814_073_344, 11_689_512, 1_819_065_856, 1_824_033_792, 1_814_083_944),
    "resnet50": (4_089_184_256, 25_557_032, None, None, None),
    "mobilenet_v3_small": (56_510_400, 2_542_856, 59_649_536, 62_477_944, 56_527_424),
    "vit_b_32": (4_409_186_304, 88_224_232, 4_367_906_304, 2_951_368_704, 173_119_720),
    "alexnet": (714_188_480, 61_100_840, 714_197_696, 714_206_912, 714_682_664),
    "swin_t": (4_490_566_656, 28_288_354, 4_509_232_128, 2_978_099_712, 34_368_232),
    "convnext_tiny": (4_455_531_264, 28_589_128, 4_470_437_376, 4_464_149_760, 322_371_592),
    "efficientnet_b0": (385_814_752, 5_288_548, 401_659_392, 415_145_024, 385_867_108),
    "densenet121": (2_834_161_664, 7_978_856, 2_865_546_752, 2_897_007_104, 2_834_246_312),
}


@VISION
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_of_torchvision_meet_the_other_tools_to_the_unit(name):
    import torchvision

    expected_macs, parameters, fvcore, thop, torchinfo = MODELS[name]
    with torch.device("meta"):
        model = getattr(torchvision.models, name)().eval()
    analysis = costax.analyze(model)(meta(1, 3, 224, 224))
    assert (analysis.total.macs, analysis.params) == (expected_macs, parameters)
    if fvcore is not None:
        assert (analysis.as_("fvcore"), analysis.as_("thop"), analysis.as_("torchinfo")) == (fvcore, thop, torchinfo)


@VISION
def test_resnet18_has_its_61_scopes_and_lines_of_torchvision():
    import torchvision

    with torch.device("meta"):
        model = torchvision.models.resnet18()
    analysis = costax.analyze(model)(meta(1, 3, 224, 224))
    assert len(analysis.by_scope()) == 61
    assert "layer1/0/conv1" in analysis.by_scope()
    assert all("torchvision/models/resnet.py:" in source for source in analysis.by_source())
    assert analysis.params == 11_689_512


@VISION
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "vit_b_16"])
def test_the_gradient_of_a_vision_model_costs_three_forward_passes_less_one_input_gradient(name):
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, name)().eval()
    apply, parameters, buffers = costax.from_torch(model)

    def loss(parameters, buffers, images):
        return (apply(parameters, buffers, images) ** 2).sum()

    x = costax.spec("f32[1,3,224,224]")
    gradient = costax.analyze(jax.value_and_grad(loss), params_argnums=0)(parameters, buffers, x)
    forward = costax.analyze(model)(x)
    first = "conv1" if name == "resnet50" else "conv_proj"
    assert gradient.total.macs == 3 * forward.total.macs - forward.by_scope()[first].macs
    assert gradient.params == forward.params == sum(p.numel() for p in model.parameters())
    assert set(gradient.by_scope()) >= set(forward.by_scope()) - {""}


@LANGUAGE
@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gpt2_and_bert_have_paths_and_flattened_outputs(attention):
    import transformers

    width, layers, batch, steps, words = 32, 2, 2, 16, 100
    tokens = meta(batch, steps, dtype=torch.int64)
    shape = {"vocab_size": words, "attn_implementation": attention}
    gpt = transformers.GPT2Config(n_embd=width, n_layer=layers, n_head=4, n_positions=64, **shape)
    bert = transformers.BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=4 * width, **shape
    )
    # Projections 4 d^2, feed-forward 8 d^2 a token; QK^T and AV are 2 s d a token.
    body = layers * batch * steps * (12 * width**2 + 2 * steps * width)
    cases = {
        "transformer/h/0/attn/c_attn": (transformers.GPT2LMHeadModel(gpt), body + batch * steps * width * words),
        "bert/encoder/layer/0/attention/self/query": (
            transformers.BertForSequenceClassification(bert),
            body + batch * width**2 + batch * width * 2,
        ),
    }
    for scope, (model, expected) in cases.items():
        forward = costax.analyze(model.eval())(tokens)
        assert forward.total.macs == expected
        assert forward.params == sum(p.numel() for p in model.parameters())
        assert scope in forward.by_scope()
        apply, parameters, buffers = costax.from_torch(model)

        def loss(parameters, buffers, tokens, apply=apply):
            return (apply(parameters, buffers, tokens).logits ** 2).sum()

        gradient = costax.analyze(jax.value_and_grad(loss), params_argnums=0)(
            parameters, buffers, costax.spec(f"i32[{batch},{steps}]")
        )
        assert gradient.total.macs == 3 * expected
        assert scope in gradient.by_scope()


def test_the_command_line_takes_a_module_or_a_factory_without_allocating_weights(tmp_path):
    from click.testing import CliRunner

    from costax.cli.app import main

    file = tmp_path / "tm.py"
    file.write_text(
        "import torch\n"
        "def large(): return torch.nn.Linear(2**20, 2**20)\n"  # 4 TiB
        "class Small(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.rate = torch.linspace(0, 1, 3)[1].item()\n"  # a value, which a meta tensor does not have
        "        self.layer = torch.nn.Linear(4, 2)\n"
        "    def forward(self, x): return self.layer(x) * self.rate\n"
        "def pair(): return Small(), (torch.zeros(3, 4),)\n"
        "module = Small()\n"
    )
    for target, inputs, expected in (
        ("large", ["--input", f"f32[1,{2**20}]"], 2**40),
        ("Small", ["--input", "f32[3,4]"], 3 * 4 * 2),
        ("module", ["--input", "f32[3,4]"], 3 * 4 * 2),
        ("pair", [], 3 * 4 * 2),
    ):
        result = CliRunner().invoke(main, ["analyze", f"{file}:{target}", *inputs, "--json"])
        assert result.exit_code == 0, result.output
        assert f'"macs": {expected}' in result.stdout
