import numpy as np
import pytest
from helpers import make_data

from experiments import versions
from experiments.benchmarks import seeds
from experiments.benchmarks.cases import Case
from experiments.data.dataset import Dataset


def test_the_spread_is_that_of_the_seeds():
    found = seeds.spread([{"x": 1.0}, {"x": 3.0}, {"x": 2.0}])
    assert found == {"x": {"mean": 2, "deviation": 1, "lowest": 1, "highest": 3}}
    assert "| x | 2.0000 | 1.0000 | 1.0000 | 3.0000 |" in seeds.table(found)


@pytest.mark.slow
def test_every_headline_measure_is_read():
    data = make_data((60, 60))
    same = {row: row for row in range(60)}
    labels = [np.arange(60) % 2] * 2
    dataset = Dataset(data, [same], [np.arange(60)] * 2, ["", ""], labels)
    case = Case("tiny", lambda: dataset, settings={"n_epochs": 20})
    found = seeds.fit_and_measure(case, dataset, 0)
    names = {"trustworthiness", "trustworthiness_min", "knn_recall", "knn_accuracy"}
    assert {*found} == names | {"displacement", "inverse_error"}
    assert 0 < found["inverse_error"] < 2


def test_pins_that_do_not_hold_are_named(monkeypatch):
    texts = ["numpy>=99", "scipy", "no-such-package>=1", "jax>=0.9"]
    monkeypatch.setattr(versions, "requirements", lambda: texts)
    wrong = "\n".join(versions.check_pins())
    assert "numpy" in wrong
    assert "scipy has no lower bound" in wrong
    assert "no-such-package is not installed" in wrong
    assert "jax>=0.9" not in wrong
