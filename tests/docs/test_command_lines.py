"""Every command line that the README and the documentation show is run, with smaller programs of the same names."""

from __future__ import annotations

import functools
import importlib.util
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from costax.cli.app import main
from costax.compare import comparison

pytestmark = [pytest.mark.once, pytest.mark.xdist_group("command_lines")]

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in path.parts]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *WRITTEN)}
# The generated page shows the examples in the help of each command.
PAGES["costax --help"] = "\n".join(
    re.sub(r"^ *", "    ", line) for command in main.commands.values() for line in (command.help or "").splitlines()
)
COMMAND = re.compile(r"(?:\$ )?((?:[A-Z_]+=\S+ |export )*(?:costax|pip|python|nox|export)\b .+)")

INSTALLS = "installs packages"
SHELL = "sets a variable of the shell for the lines after it"
NEEDS_CUDA = "needs the CUDA plugin"
NEEDS_TPU = "needs libtpu"
NEEDS_TORCH = "needs torch"
MINUTE = "measures for a minute; tests/measure/test_calibration.py runs it"
TRAINS = "stands for a program of the reader"
# What is not run here, each line by name. A line that needs a package runs where that is installed.
NOT_RUN = {
    "pip install .[examples]": INSTALLS,
    "pip install nox": INSTALLS,
    "nox -s tests": INSTALLS,
    "pip install .[cuda]": INSTALLS,
    "pip install .[tpu]": INSTALLS,
    "pip install .[torch] torchvision transformers": INSTALLS,
    "export XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true": SHELL,
    "export XLA_FLAGS=$XLA_FLAGS --xla_gpu_pgle_profile_file_or_directory_path=costs.pbtxt": SHELL,
    "python train.py": TRAINS,
    "costax calibrate": MINUTE,
    "costax predict train.py:step --device h100-sxm --xla --target cuda:h100:8 --save costs.pbtxt": NEEDS_CUDA,
    "costax compare train.py:step --target cuda:h100:2x8": NEEDS_CUDA,
    "costax fits examples/llama.py:llama2_7b --device h100-sxm --xla": NEEDS_CUDA,
    "costax predict TARGET --device h100-sxm --xla --target cuda:h100:8 --save costs.pbtxt": NEEDS_CUDA,
    "costax compare train.py:step --target tpu:v5e:4x4": NEEDS_TPU,
    "costax compare train.py:step --target tpu:v5e:4x4:2": NEEDS_TPU,
    "costax compare examples/gpt2.py:gpt2_train_step --target tpu:v5e": NEEDS_TPU,
    "costax analyze tm.py:resnet50 --input f32[1,3,224,224] --by module --depth 1": NEEDS_TORCH,
    "costax analyze tm.py:vit_b_16 --input f32[1,3,224,224] --as thop": NEEDS_TORCH,
}
MODULES = {
    NEEDS_CUDA: ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13"),
    NEEDS_TPU: ("libtpu",),
    NEEDS_TORCH: ("torchvision", "torchax"),
}
# What the answer of a command may be: that a program fits no device is one.
ANSWERS = {"fits": {0, 1, 3}, "diff": {0, 1}}


def commands(text: str) -> list[str]:
    """The command lines of a page: the indented lines, and those of fenced blocks that are for a shell."""
    found, fence = [], None
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fence = line.strip(" `") if fence is None else None
        elif (fence is None and line.startswith("    ")) or fence in ("", "console", "sh", "bash", "text"):
            found += [match[1] for match in [COMMAND.fullmatch(line.strip())] if match]
    return found


def parts(line: str) -> list[list[str]]:
    """The words of each command of a line, comments left out."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def hindrance(words: list[str]) -> str:
    """Why a command is not run here, or ""."""
    reason = NOT_RUN.get(" ".join(words), "")
    return "" if any(map(installed, MODULES.get(reason, ()))) else reason


LINES = {page: [words for line in commands(text) for words in parts(line)] for page, text in PAGES.items()}
LINES = {page: lines for page, lines in LINES.items() if lines}

SMALLER = {
    "gpt2.py": {
        "VOCAB, CONTEXT = 50257, 1024": "VOCAB, CONTEXT = 64, 16",
        "layers: int = 12": "layers: int = 1",
        "block_{i}": "block_{i + 3}",
        "optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(6e-4, b2=0.95, weight_decay=0.1))": "optax.sgd(6e-4)",
        "heads: int = 12": "heads: int = 2",
        "width: int = 768": "width: int = 16",
        "i32[8,": "i32[2,",
    },
    "resnet.py": {
        "nn.Conv(64,": "nn.Conv(4,",
        "self.block(64 *": "self.block(4 *",
        "(2, 2, 2, 2)": "(1, 1)",
        "(3, 4, 6, 3)": "(1, 1)",
        "224,224": "32,32",
        "f32[32,": "f32[2,",
        "i32[32]": "i32[2]",
    },
}
TRAIN = """
import sys
import jax, jax.numpy as jnp
import costax

def train_step(w, x):
    def loss(w):
        with jax.named_scope("decoder"), jax.named_scope("layer_3"):
            return (jnp.tanh(x @ w) * 1.0).sum() + jax.nn.softmax(x @ w).max()
    return w - 0.1 * jax.grad(loss)(w)

step = costax.Target(train_step, (costax.spec("f32[64,64]"), costax.spec("f32[16,64]")), params_argnums=0)

if __name__ == "__main__":
    w, x = jnp.ones((64, 64)), jnp.ones((16, 64))
    run = jax.jit(train_step)
    run(w, x).block_until_ready()
    if len(sys.argv) > 1:
        with jax.profiler.trace(sys.argv[1]):
            for _ in range(3):
                run(w, x).block_until_ready()
"""
STUDY = """
import costax

def make(depth, width):
    def net(w, x):
        for i in range(depth):
            x = x @ w
        return x
    return costax.Target(net, (costax.spec(f"f32[{width},{width}]"), costax.spec(f"f32[8,{width}]")), params_argnums=0)
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder with every file that a page names."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "examples").mkdir()
    for source in (ROOT / "examples").glob("*.py"):
        text = source.read_text(encoding="utf-8")
        for large, small in SMALLER.get(source.name, {}).items():
            assert large in text, f"{source.name} no longer has {large!r}"
            text = text.replace(large, small)
        (folder / "examples" / source.name).write_text(text, encoding="utf-8")
    (folder / "train.py").write_text(TRAIN)
    (folder / "study.py").write_text(STUDY)
    dumps = "--xla_dump_to=DIR --xla_dump_hlo_pass_re=.* --xla_dump_hlo_as_proto"
    subprocess.run(
        [sys.executable, "train.py", "profile_folder"],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": dumps, "JAX_PLATFORMS": "cpu"},
        check=True,
        capture_output=True,
    )
    final = next((folder / "DIR").glob("*jit_train_step*after_optimizations.hlo.pb"))
    for name in (
        *("module.hlo.pb", "before.hlo.pb", "after.hlo.pb", "module_0040.jit_step.after_optimizations.hlo.pb"),
        *("module_0040.jit_step.gpu_after_optimizations.hlo.pb.xz", "after_optimizations.hlo.pb.xz"),
    ):
        (folder / name).write_bytes(lzma.compress(final.read_bytes()) if name.endswith(".xz") else final.read_bytes())
    shutil.copytree(folder / "DIR", folder / "dump")
    shutil.copy(next((folder / "profile_folder").rglob("*.xplane.pb")), folder / "profile.xplane.pb")
    written_by_jax(folder)
    return folder


def written_by_jax(folder: Path) -> None:
    """Write the program as text, as StableHLO and as an export, and times for its instructions."""
    import jax
    import jax.numpy as jnp

    import costax

    lowered = jax.jit(lambda x: jnp.tanh(x @ x)).lower(jnp.ones((8, 8)))
    (folder / "lowered.mlir").write_text(lowered.as_text())
    (folder / "module.txt").write_text(lowered.compile().as_text())
    exported = jax.export.export(jax.jit(lambda x: jnp.tanh(x @ x)))(jnp.ones((8, 8)))
    (folder / "exported_program.bin").write_bytes(exported.serialize())
    module = costax.analyze(folder / "module.hlo.pb")()
    names = [kernel.instruction for kernel in module.kernels()]
    for name in ("times.csv", "kernel_times.csv"):
        rows = "".join(f"{instruction},1000000\n" for instruction in names)
        (folder / name).write_text(f"instruction,nanoseconds\n{rows}")


SWEPT: set[tuple[str, ...]] = set()
RECORDS = ("old.json", "before.json", "after.json", "main.json", "branch.json", "gpt2.json")


@functools.cache
def compared(name: str, inputs: str, target: str, passes: bool, flags: str):
    """The arguments are the key under which a comparison is kept: pages show many options of the same one."""
    return []


@pytest.fixture
def one_compilation(monkeypatch):
    """Compile a program once for all lines that compare it."""
    compile_it = comparison.compare_program

    def once(program, analysis, machine, timeout, *, passes, xla_flags):
        kept = compared(analysis.name, repr(analysis.inputs), repr(machine), passes, repr(xla_flags))
        if not kept:
            kept.append(compile_it(program, analysis, machine, timeout, passes=passes, xla_flags=xla_flags))
        return kept[0]

    monkeypatch.setattr(comparison, "compare_program", once)


@pytest.fixture(autouse=True)
def no_smaller_example_stays(tmp_path_factory):
    """Other tests import the examples by name."""
    path, before = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    written = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(written):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.usefixtures("one_compilation")
@pytest.mark.parametrize("page", LINES)
def test_the_command_lines_of_a_page_run(page, programs, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    shutil.copytree(programs, folder)
    monkeypatch.chdir(folder)
    if any(word in RECORDS for words in LINES[page] for word in words):
        saved = [word for name in RECORDS for word in ("--save", name)]
        run(["costax", "analyze", "examples/gpt2.py:gpt2_small", *saved])
    text = PAGES[page]
    for words in LINES[page]:
        if not hindrance(words):
            # A comment behind a line of the help says which record it means.
            if "after.hlo.pb" in words and "main.json" in words and f"{shlex.join(words)}    # main.json" in text:
                run(["costax", "analyze", "before.hlo.pb", "--save", "main.json"])
            run(words)


def run(words: list[str]) -> None:
    if words[0] != "costax":
        variables = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        command = [sys.executable if word == "python" else word for word in words if not re.match(r"[A-Z_]+=", word)]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", **variables}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return
    if words[1] == "sweep":
        # Each sweep starts a pool of processes, so the same line of another page is not run again.
        if tuple(words) in SWEPT:
            return
        SWEPT.add(tuple(words))
    words, _, file = (words[: words.index(">")], ">", words[-1]) if ">" in words else (words, "", "")
    target = "examples/mlp_train.py:mlp_train_step"
    result = CliRunner().invoke(main, [target if word == "TARGET" else word for word in words[1:]])
    crash = "" if isinstance(result.exception, SystemExit | None) else repr(result.exception)
    assert result.exit_code in ANSWERS.get(words[1], {0}), f"{shlex.join(words)}\n{result.output}\n{crash}"
    if file:
        Path(file).write_text(result.stdout)


def test_nothing_stands_in_the_list_of_lines_that_are_not_run_without_need():
    shown = {" ".join(words) for lines in LINES.values() for words in lines}
    assert set(NOT_RUN) - shown == set()
    for line, reason in NOT_RUN.items():
        words = line.split()
        if reason == INSTALLS:
            assert words[0] in ("pip", "nox"), line
        elif reason in (NEEDS_CUDA, NEEDS_TPU):
            asked = "cuda" if reason == NEEDS_CUDA else "tpu"
            assert any(word.startswith(f"{asked}:") for word in words) or {"--xla", "h100-sxm"} <= set(words), line
        elif reason == NEEDS_TORCH:
            assert words[2].startswith("tm.py:"), line
        else:
            assert reason in (SHELL, MINUTE, TRAINS), line


@pytest.mark.slow
def test_a_line_that_needs_a_compiler_says_so_where_that_is_missing(programs, monkeypatch):
    monkeypatch.chdir(programs)
    for line in [line for line, reason in NOT_RUN.items() if reason in (NEEDS_CUDA, NEEDS_TPU)]:
        words = [word.replace("TARGET", "train.py:step") for word in line.split()]
        if hindrance(line.split()):
            result = CliRunner().invoke(main, words[1:])
            assert result.exit_code == 2, line
            assert "is not installed" in result.output, line


def test_a_wrong_option_in_a_page_is_found():
    assert problem("costax analyze TARGET --by scope") == ""
    assert "'layer' is not one of" in problem("costax analyze TARGET --by layer")
    assert "--atop" in problem("costax analyze TARGET --atop 3")
    assert problem("costax count TARGET")


def problem(line: str) -> str:
    """What is wrong with the options of a command line in running text, which has no files to run with."""
    _, name, *words = shlex.split(line)
    if name not in main.commands:
        return f"no command {name}"
    try:
        main.commands[name].make_context(name, words)
    except (click.MissingParameter, click.BadOptionUsage):
        return ""  # running text may leave out TARGET and values
    except click.UsageError as error:
        return error.message
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_in_the_text_of_a_page_have_the_options_that_it_names(page):
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"(?<!`)`(costax [a-z][^`]*)`", text)
    assert [(line, problem(line)) for line in lines if problem(line)] == []


def test_the_examples_that_pages_name_exist():
    named = {name for text in PAGES.values() for name in re.findall(r"examples/(\w+\.py):(\w+)", text)}
    assert len(named) > 8
    for file, name in named:
        assert re.search(rf"^(?:def|class) {name}\b", (ROOT / "examples" / file).read_text(), re.MULTILINE), (
            file,
            name,
        )
