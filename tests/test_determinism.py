import os
import subprocess
import sys
from pathlib import Path

import pytest

import aljax

BEGIN = """
import os, sys
os.sched_setaffinity(0, {int(cpu) for cpu in sys.argv[1].split(",")})
import hashlib
import jax
import numpy as np
from sklearn.datasets import load_digits
import aljax

given = load_digits()
data = given.data[np.argsort(given.data.sum(axis=1), kind="stable")]
windows, relations = aljax.sliding_windows(data.astype(np.float32), 400, 150)
"""
FIT = """
embedding = aljax.fit(
    windows[:3],
    relations[:2],
    key=jax.random.key(0),
    graph=aljax.GraphConfig(knn_method="exact"),
    layout=aljax.LayoutConfig(n_epochs=100, init={init!r}),
)
leaves = embedding.maps
"""
END = """
content = b"".join(np.asarray(leaf).tobytes() for leaf in leaves)
print(hashlib.sha256(content).hexdigest())
"""
# Each compiles for itself: a program may depend on the cores that it is compiled for.
ENVIRONMENT = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
ENVIRONMENT["PYTHONPATH"] = str(Path(aljax.__file__).parents[1])
CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def start(cpus: list[int], code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + code + END, ",".join(map(str, cpus))],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compare(code: str) -> None:
    """Run it on one core and on two, and compare the bits that it leaves."""
    processes = [start(CPUS[:1], code), start(CPUS[:2], code)]
    outputs = [process.communicate(timeout=240) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    hashes = [output.strip() for output, _ in outputs]
    assert len(hashes[0]) == 64
    assert hashes[0] == hashes[1]


@pytest.mark.skipif(len(CPUS) < 2, reason="needs Linux and two CPUs")
@pytest.mark.slow
@pytest.mark.parametrize("init", ["spectral", "pca"])
def test_the_same_key_gives_the_same_bits_on_one_core_and_on_two(init):
    compare(FIT.format(init=init))
