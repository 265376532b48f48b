"""Every check of the repository as one command: `nox -s tests lint types`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "venv"

FLOOR = "0.8.2"  # the lower bound of jax in pyproject.toml; tests/test_repository.py holds them equal
NEWEST_PYTHON = "3.13"  # newer jax than the default Python can have


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


@nox.session
@nox.parametrize(
    ["python", "jax"],
    [
        nox.param(sys.executable, "newest", id="newest"),
        nox.param(sys.executable, FLOOR, id="floor"),
        nox.param(NEWEST or sys.executable, "newest of all", id=f"python-{NEWEST_PYTHON}"),
    ],
)
def tests(session: nox.Session, jax: str) -> None:
    """The test suite: newest jax of this Python, the oldest jax supported, and the newest jax of all."""
    if jax == "newest of all" and NEWEST is None:
        session.skip(f"no Python {NEWEST_PYTHON} on this machine, which the newest jax needs")
    session.install(".[test]", *([f"jax=={FLOOR}", f"jaxlib=={FLOOR}"] if jax == FLOOR else []))
    session.run("python", "-c", "import sys, jax; print('python', sys.version.split()[0], 'jax', jax.__version__)")
    # What is the same for every jax is tried once.
    chosen = () if jax == "newest" else ("-m", "not browser and not once")
    session.run("python", "-m", "pytest", "-q", "-n", "2", *chosen, *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def aot(session: nox.Session) -> None:
    """The tests that compile ahead of time for an H100 and a TPU v5e; `nox -s aot -- cuda` installs that one alone."""
    chosen = [name for name in ("cuda", "tpu") if name in session.posargs] or ["cuda", "tpu"]
    session.install(f".[test,{','.join(chosen)}]")
    session.run("python", "-m", "pytest", "-q", "tests/compare/ahead_of_time", env={"JAX_PLATFORMS": "cpu"})


@nox.session
def symbols(session: nox.Session) -> None:
    """Ten points of every example against its formulas, however long they take (`tests` tries fewer of the large)."""
    session.install(".[test]")
    everything = {"JAX_PLATFORMS": "cpu", "COSTAX_EVERY_POINT": "1"}
    chosen = ("tests/analysis/test_symbols.py", "-k", "formulas_of_an_example")
    session.run("python", "-m", "pytest", "-q", *chosen, env=everything)


@nox.session
def fuzz(session: nox.Session) -> None:
    """The reader of HLO files under atheris, ten minutes or so many seconds: `nox -s fuzz -- 60`."""
    session.install(".[test]")
    # It has wheels for some Pythons and Linux alone; without one pip would build libFuzzer.
    installed = subprocess.run(
        [session.bin + "/python", "-m", "pip", "install", "--only-binary", ":all:", "atheris"], check=False
    )
    if installed.returncode:
        session.skip("atheris has no wheel for this Python and machine")
    seconds = session.posargs[0] if session.posargs else "600"
    corpus = Path(session.create_tmp()) / "seeds"
    session.run("python", "tests/fuzz/seeds.py", str(corpus), env={"JAX_PLATFORMS": "cpu"})
    limits = (f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-verbosity=1")
    session.run("python", "tests/fuzz/fuzz_hlo.py", *limits, str(corpus))


@nox.session
def long(session: nox.Session) -> None:
    """2,000 random programs, or so many: each difference from XLA's count has a name: `nox -s long -- 500`."""
    session.install(".[test]")
    examples = session.posargs[0] if session.posargs else "2000"
    session.run(
        *("python", "-m", "pytest", "-q", "tests/compare/test_attribution.py", "-k", "random"),
        env={"JAX_PLATFORMS": "cpu", "COSTAX_EXAMPLES": examples},
    )


@nox.session
def corpus(session: nox.Session) -> None:
    """The table of docs/corpus.md, made anew: every program of the corpus in four accounts."""
    session.install(".[test]")
    session.run("python", "-W", "ignore", "docs/corpus_table.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Rules and format."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the library, strictly."""
    # With every extra whose types the library names.
    session.install(".[test,html,plots,pandas]", "pyright")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, every warning an error, and the examples in it."""
    session.install(".[docs]")
    for builder in ("html", "doctest"):
        session.run(
            *("python", "-m", "sphinx", "-n", "-W", "--keep-going", "-b", builder, "docs", f"docs/_build/{builder}"),
            env={"JAX_PLATFORMS": "cpu"},
        )


@nox.session
def peers(session: nox.Session) -> None:
    """What the counters of other libraries print; `nox -s peers > benchmarks/peers.json` (they take gigabytes)."""
    session.install("torch", "torchvision", "setuptools")
    session.install("fvcore", "thop", "ptflops", "torchinfo", "calflops", "transformers")
    session.install("--no-build-isolation", "deepspeed")
    session.run("python", "benchmarks/peers.py")


@nox.session
def bench_symbols(session: nox.Session) -> None:
    """Speed of formulas and sweeps; the table of benchmarks/README.md."""
    session.install(".[test]")
    session.run("python", "benchmarks/symbols.py", env={"JAX_PLATFORMS": "cpu"})


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and memory, as ratios of interleaved medians; prints the tables of benchmarks/README.md."""
    session.install(".[examples]")
    for name in ("speed", "comparison"):
        session.run("python", f"benchmarks/{name}.py", *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def memory(session: nox.Session) -> None:
    """The fused estimate beside XLA's memory for an H100; `nox -s memory -- --record` compiles all of it anew."""
    session.install(".[test,cuda]" if "--record" in session.posargs else ".[test]")
    session.run("python", "benchmarks/memory.py", *session.posargs, env={"JAX_PLATFORMS": "cpu"})


@nox.session
def prediction(session: nox.Session) -> None:
    """Predicted beside measured seconds on this machine, seven models at five sizes each; calibrates a CPU first."""
    session.install(".[examples]")
    session.run("python", "benchmarks/prediction.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the source distribution."""
    session.install("build")
    session.run("python", "-m", "build")
