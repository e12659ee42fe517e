import numpy as np
import pandas as pd
import pytest

from aljax import metrics
from experiments.data.dataset import same_members
from experiments.tutorials import models


def test_gradients_are_sorted_by_their_direction():
    ramp = np.arange(8.0) * np.ones((8, 1))
    right, down, left, up = models.gradients(
        np.stack([ramp, ramp.T, -ramp, -ramp.T])
    ).reshape(4, 9, 8)
    for histograms, direction in ((right, 0), (down, 2), (left, 4), (up, 6)):
        np.testing.assert_allclose(histograms[:, direction], 16)  # pixels of a square
        assert histograms.sum() == pytest.approx(9 * 16)


def test_the_table_has_the_rows_that_changed_most_first(rng):
    first = rng.normal(size=(80, 5))
    second = first + (np.arange(80) < 20)[:, None] * rng.normal(size=(80, 5))
    labels = np.arange(80) % 2
    dataset = same_members([first, first, second], ["a", "b", "c"], labels)
    table = models.changes(dataset)
    assert (table.before + table.after).tolist() == ["ab"] * 80 + ["bc"] * 80
    same, later = table[:80], table[80:]
    assert not same.changed.any()
    assert later.changed.is_monotonic_decreasing
    assert (later.row[:10] < 20).mean() > 0.5
    kept = metrics.neighborhood_preservation(dataset.slices[1], dataset.slices[2])
    assert later.changed.mean() == pytest.approx(1 - kept)
    hit = metrics.neighborhood_hit(dataset.slices[2], labels, n_neighbors=15)
    assert later.alike_after.mean() == pytest.approx(hit)


@pytest.mark.slow
def test_the_command_writes_pictures_and_tables(tmp_path, monkeypatch):
    pixels, classes = models.digits()
    monkeypatch.setattr(models, "digits", lambda: (pixels[:200], classes[:200]))
    monkeypatch.setattr(models, "SNAPSHOTS", 3)
    monkeypatch.setattr("experiments.data.sequences.BATCH", 50)
    models.main([str(tmp_path)])
    for name, rows in (("layers", 100), ("features", 200)):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        assert len(table) == 3 * rows
        assert (classes[table.row] == table.label).all()
        for picture in (f"{name}.png", f"{name}_compared.png"):
            assert (tmp_path / picture).stat().st_size > 10_000
