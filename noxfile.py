"""Every check of the repository as one command: `nox -s tests lint types`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "uv|venv"

FLOOR = "0.8.2"  # the lower bound of jax in pyproject.toml; a test compares the two
NEWEST_PYTHON = "3.13"  # the newest jax does not support the default Python


def interpreter(version: str) -> str | None:
    """Return the path of a Python of this version that runs, from the PATH or from pyenv's versions, or None."""
    pyenv = Path(shutil.which("pyenv") or "").resolve().parents[1] if shutil.which("pyenv") else Path.home() / ".pyenv"
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))]
    for candidate in filter(None, candidates):
        found = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if found.returncode == 0 and f" {version}." in found.stdout:
            return candidate
    return None


NEWEST = interpreter(NEWEST_PYTHON)


def pinned(group: str) -> tuple[str, ...]:
    """Return the exact versions of a group of development tools, from pyproject.toml."""
    return nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), group)


# The packages that read what jax and XLA made; the others see jax through them.
CLOSE_TO_JAX = [f"tests/{name}" for name in ("_jax", "rules", "program", "hlo", "compare", "cli")]
every_version = nox.parametrize(
    ["python", "jax"],
    [
        nox.param(sys.executable, "newest", id="newest"),
        nox.param(sys.executable, FLOOR, id="floor"),
        nox.param(NEWEST or sys.executable, "newest of all", id=f"python-{NEWEST_PYTHON}"),
    ],
)


def prepare(session: nox.Session, jax: str) -> tuple[str, ...]:
    """Install costax with this jax, say which it is, and return the command that runs tests."""
    if jax == "newest of all" and NEWEST is None:
        session.skip(f"no Python {NEWEST_PYTHON} on this machine, which the newest jax needs")
    session.install(".[test]", *([f"jax=={FLOOR}", f"jaxlib=={FLOOR}"] if jax == FLOOR else []))
    session.run("python", "-c", "import sys, jax; print('python', sys.version.split()[0], 'jax', jax.__version__)")
    # `.ci/run` gives 0 to sessions that run beside each other: one process collects and compiles less twice than two.
    return ("python", "-m", "pytest", "-q", "-n", os.environ.get("COSTAX_TEST_PROCESSES", "2"), "--durations=10")


@nox.session
@every_version
def tests(session: nox.Session, jax: str) -> None:
    """The suite on the newest jax for this Python, and on the oldest supported and the newest of all what reads jax."""
    run, environment = prepare(session, jax), {"JAX_PLATFORMS": "cpu"}
    if jax == "newest":
        # The session `types` runs the tests of types.
        others = ("--ignore", "tests/repository/test_typing.py")
        session.run(*run, *others, *session.posargs, env=environment)
        return
    chosen = [] if session.posargs else CLOSE_TO_JAX
    session.run(*run, "-m", "not browser and not once and not long", *chosen, *session.posargs, env=environment)


@nox.session
@every_version
def versions(session: nox.Session, jax: str) -> None:
    """The whole suite on every version of jax, but for tests whose result does not depend on it."""
    run = prepare(session, jax)
    chosen = "not browser and not once and not long"
    session.run(*run, "-m", chosen, *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session(venv_backend="venv")
def torch(session: nox.Session) -> None:
    """The tests of PyTorch programs and the guide about them; gigabytes of packages on Linux."""
    session.install(".[test,torch]", "torchvision", "transformers")
    chosen = ("tests/program/test_torch.py", "tests/docs/test_pytorch_guide.py")
    session.run("python", "-m", "pytest", "-q", *chosen, *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def nightly(session: nox.Session) -> None:
    """The fast tests on jax's main branch, with the newest released jaxlib: warns of changes before a release."""
    session.install(".[test]")
    session.install("--upgrade", "jax @ git+https://github.com/jax-ml/jax")
    session.run(
        "python",
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-m",
        "not slow and not long",
        *session.posargs,
        env={"JAX_PLATFORMS": "cpu"},
    )


@nox.session
def aot(session: nox.Session) -> None:
    """The tests that compile ahead of time for an H100 and a TPU v5e; `nox -s aot -- cuda` installs that one alone."""
    chosen = [name for name in ("cuda", "tpu") if name in session.posargs] or ["cuda", "tpu"]
    session.install(f".[test,{','.join(chosen)}]")
    session.run("python", "-m", "pytest", "-q", "tests/compare/ahead_of_time", env={"JAX_PLATFORMS": "cpu"})


@nox.session
def symbols(session: nox.Session) -> None:
    """Ten points of every example against its formulas; `tests` checks fewer points of the large examples."""
    session.install(".[test]")
    everything = {"JAX_PLATFORMS": "cpu", "COSTAX_EVERY_POINT": "1"}
    chosen = ("tests/analysis/test_symbols.py", "-k", "formulas_of_an_example")
    session.run("python", "-m", "pytest", "-q", *chosen, env=everything)


@nox.session(venv_backend="venv")
def fuzz(session: nox.Session) -> None:
    """Fuzz every reader with atheris, ten minutes each, or a number of seconds: `nox -s fuzz -- 60`."""
    session.install(".[test]")
    # atheris has wheels for some versions of Python on Linux; elsewhere pip would build libFuzzer.
    installed = subprocess.run(
        [session.bin + "/python", "-m", "pip", "install", "--only-binary", ":all:", "atheris"], check=False
    )
    if installed.returncode:
        session.skip("atheris has no wheel for this Python and machine")
    seconds = session.posargs[0] if session.posargs else "600"
    corpus = Path(session.create_tmp()) / "seeds"
    session.run("python", "tests/fuzz/seeds.py", str(corpus), env={"JAX_PLATFORMS": "cpu"})
    limits = (f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-verbosity=1")
    for kind in ("hlo", "traces", "records", "formulas", "devices"):
        fuzzer = str(Path("tests", "fuzz", f"fuzz_{kind}.py"))
        session.run("python", fuzzer, *limits, str(corpus / kind), env={"JAX_PLATFORMS": "cpu"})


@nox.session
def soak(session: nox.Session) -> None:
    """10,000 analyses and 200 comparisons in one process: memory stays flat; `nox -s soak -- --analyses 1000`."""
    session.install(".[test]")
    session.run("python", "-W", "ignore", "tests/soak/soak.py", *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def long(session: nox.Session) -> None:
    """Tests of minutes, and 2,000 random and as many mutated programs, or another number: `nox -s long -- 500`."""
    session.install(".[test]")
    examples = session.posargs[0] if session.posargs else "2000"
    session.run("python", "-m", "pytest", "-q", "-m", "long", env={"JAX_PLATFORMS": "cpu"})
    session.run(
        *("python", "-m", "pytest", "-q", "tests/compare/test_attribution.py", "-k", "random or mutated"),
        env={"JAX_PLATFORMS": "cpu", "COSTAX_EXAMPLES": examples},
    )


@nox.session
def real(session: nox.Session) -> None:
    """Compare programs of other libraries with XLA: brax, MJX, mctx, blackjax, e3nn and others; `-- -k mjx` for one."""
    session.install(".[test]")
    # In a second step, so that pip keeps the jax of the first if the libraries work with it.
    session.install("mctx", "blackjax", "e3nn-jax", "brax", "mujoco", "mujoco-mjx")
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    session.run("python", "-m", "pytest", "-q", "tests/real", *session.posargs, env=environment)


@nox.session
def corpus(session: nox.Session) -> None:
    """Regenerate docs/corpus.md: the counts of every program of the corpus at every stage."""
    session.install(".[test]")
    session.run("python", "-W", "ignore", "docs/corpus_table.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Lint rules, format, spelling, pyproject.toml and the GitHub workflows."""
    session.install(*pinned("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("typos")
    session.run("validate-pyproject", "pyproject.toml")
    session.run("zizmor", "--offline", "--quiet", ".github/workflows")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the library in strict mode, and the types that a user of the public API sees."""
    # The library names types of these extras.
    session.install(".[test,html,plots,pandas]", *pinned("types"))
    session.run("pyright")
    # They run `pyright --verifytypes` and mypy.
    session.run("python", "-m", "pytest", "-q", "tests/repository/test_typing.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, and run its examples."""
    session.install(".[docs]")
    for builder in ("html", "doctest"):
        session.run(
            *("python", "-m", "sphinx", "-n", "-W", "--keep-going", "-b", builder, "docs", f"docs/_build/{builder}"),
            env={"JAX_PLATFORMS": "cpu"},
        )


@nox.session
def peers(session: nox.Session) -> None:
    """Run the counters of other libraries (gigabytes of packages): `nox -s peers > benchmarks/peers.json`."""
    session.install("torch", "torchvision", "setuptools")
    session.install("fvcore", "thop", "ptflops", "torchinfo", "calflops", "transformers")
    session.install("--no-build-isolation", "deepspeed")
    session.run("python", "benchmarks/peers.py")


@nox.session
def bench_symbols(session: nox.Session) -> None:
    """Measure the speed of formulas and sweeps; prints a table of benchmarks/README.md."""
    session.install(".[test]")
    session.run("python", "benchmarks/symbols.py", env={"JAX_PLATFORMS": "cpu"})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory as ratios of interleaved medians; prints the tables of benchmarks/README.md."""
    session.install(".[examples]")
    for name in ("speed", "comparison"):
        session.run("python", f"benchmarks/{name}.py", *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def memory(session: nox.Session) -> None:
    """Compare the fused memory estimate with XLA for an H100; `nox -s memory -- --record` recompiles every program."""
    session.install(".[test,cuda]" if "--record" in session.posargs else ".[test]")
    session.run("python", "benchmarks/memory.py", *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def prediction(session: nox.Session) -> None:
    """Compare predicted and measured seconds of seven models at five sizes; calibrates the CPU first."""
    session.install(".[examples]")
    session.run("python", "benchmarks/prediction.py", *session.posargs)


@nox.session
def cpu_time(session: nox.Session) -> None:
    """Compare predicted and measured processor time of 58 programs that the calibration of a CPU has not seen."""
    session.install(".")
    session.run("python", "benchmarks/cpu_time.py", *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def accuracy(session: nox.Session) -> None:
    """Predictions against measured tables, XLA and published runs; fails if a figure is worse than before."""
    session.install(".[examples]")
    session.run("python", "benchmarks/accuracy.py", *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the source distribution; the wheel must hold the marker of a typed package."""
    session.install("build")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    for wheel in Path("dist").glob("*.whl"):
        if "costax/py.typed" not in zipfile.ZipFile(wheel).namelist():
            session.error(f"{wheel.name} has no costax/py.typed, so users would get no types.")
