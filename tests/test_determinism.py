import os
import subprocess
import sys
from pathlib import Path

import pytest

import aljax

FIT = """
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
embedding = aljax.fit(
    windows[:3],
    relations[:2],
    key=jax.random.key(0),
    graph=aljax.GraphConfig(knn_method="exact"),
    layout=aljax.LayoutConfig(n_epochs=100, init=sys.argv[2]),
)
print(hashlib.sha256(np.asarray(embedding.maps).tobytes()).hexdigest())
"""
CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def start(cpus: list[int], init: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FIT, ",".join(map(str, cpus)), init],
        env=os.environ | {"PYTHONPATH": str(Path(aljax.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(len(CPUS) < 2, reason="needs Linux and two CPUs")
@pytest.mark.parametrize("init", ["spectral", "pca"])
def test_the_same_key_gives_the_same_bits_on_one_core_and_on_two(init):
    processes = [start(CPUS[:1], init), start(CPUS[:2], init)]
    outputs = [process.communicate(timeout=240) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    hashes = [output.strip() for output, _ in outputs]
    assert len(hashes[0]) == 64
    assert hashes[0] == hashes[1]
