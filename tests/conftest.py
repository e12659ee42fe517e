"""Seeds, profiles of the properties, and errors as a user meets them."""

import functools
import gc
import os
from contextlib import suppress
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

# aljax broadcasts (neighbors, points) with (points,) throughout, by design of its
# axis order, so NumPy's rank promotion stays allowed.
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=15
)
hypothesis.settings.register_profile(
    "long",
    deadline=None,
    max_examples=1000,
    print_blob=True,
    suppress_health_check=[*hypothesis.HealthCheck],
)
hypothesis.settings.load_profile("ci")

# Programs of tests run briefly, so most of their time is that of compiling them.
BRIEFLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"
# In jax 0.9 and 0.10 a program that is hardly optimized compiles with these in half the
# time; later releases do not know the first, and end a process that sets it.
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
KNOWN = jax.__version_info__ < (0, 11)


def pytest_configure(config):
    """Compiles with few optimizations, except for slow tests or where asked for all."""
    if BRIEFLY not in os.environ and config.option.markexpr == "not slow":
        os.environ[BRIEFLY] = "1"  # for processes that tests start
        jax.config.update(BRIEFLY.lower(), True)
        if KNOWN:
            os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}"


# Compiled programs make a large heap: to walk it less often saves a twentieth.
gc.set_threshold(100_000, 50, 100)


# A compiled program takes tens of maps of memory, of which Linux grants a process
# 65,530: one worker alone would run out of them, and LLVM then ends the process.
MAPS = 45_000


@pytest.fixture(autouse=True, scope="module")
def _few_maps():
    """Forgets compiled programs after a file of tests that leaves very many."""
    yield
    with suppress(OSError):  # on systems without such a list
        if Path("/proc/self/maps").read_bytes().count(b"\n") > MAPS:
            jax.clear_caches()


# Runs that share this folder share out the files: each takes what no other has taken.
TAKEN = os.environ.get("TESTS_TAKEN")


@functools.cache
def takes(file: Path) -> bool:
    """Tells if a file of tests is this run's, which then is no other's."""
    try:
        (Path(TAKEN or "") / file.name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def pytest_runtest_protocol(item):
    """Passes over the tests of another run."""
    return True if TAKEN and not takes(item.path) else None


def pytest_terminal_summary(terminalreporter):
    """Say how many examples the properties were tried on."""
    ended = terminalreporter.stats.get("", [])
    tried = [
        n for one in ended for name, n in one.user_properties if name == "examples"
    ]
    if tried:
        terminalreporter.write_line(f"{sum(tried)} examples of {len(tried)} properties")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def as_users_run_it():
    """Without the runtime type checker: aljax itself has to refuse bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def compiled_in_full():
    """With all of XLA's optimizations: for modules whose programs run long."""
    usual = jax.config.read(BRIEFLY.lower())
    jax.config.update(BRIEFLY.lower(), False)
    yield
    jax.config.update(BRIEFLY.lower(), usual)
