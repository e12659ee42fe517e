"""What a run measures, and the table it prints."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import aljax
from aljax import metrics
from aljax.metrics import motion
from aljax.relations.mates import Mates
from aljax.sweep import measure_row
from experiments.data.dataset import Dataset
from experiments.results import contents, report

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(3)
    centers = 6 * rng.normal(size=(4, 5))
    labels = rng.integers(4, size=200)
    rows = centers[labels] + rng.normal(size=(200, 5))
    data = Dataset([rows], [], [np.arange(200)], [""], labels=[labels])
    layout = aljax.LayoutConfig(n_epochs=0)
    return data, aljax.fit([rows], key=KEY, layout=layout)


@pytest.mark.slow
def test_large_slices_are_measured_on_rows_that_are_drawn(fitted, monkeypatch):
    every = report.measure(*fitted)
    monkeypatch.setattr(report, "MEASURED", 120)
    some, again = report.measure(*fitted), report.measure(*fitted)
    assert some == again
    assert some.trustworthiness != every.trustworthiness
    assert some.trustworthiness[0] == pytest.approx(every.trustworthiness[0], abs=0.02)
    assert some.accuracy[0] == pytest.approx(every.accuracy[0], abs=0.05)


def test_rows_without_a_label_neither_vote_nor_count(fitted):
    data, embedding = fitted
    labels = data.labels[0].astype(float)
    half = np.where(np.arange(200) % 2, labels, np.nan)
    named = replace(data, labels=[half])
    rows = np.flatnonzero(np.arange(200) % 2)
    alone = aljax.metrics.knn_accuracy(embedding.maps[0][rows], labels[rows])
    assert report.measure(named, embedding).accuracy == [alone]
    nobody = replace(data, labels=[np.full(200, np.nan)])
    assert np.isnan(report.measure(nobody, embedding).accuracy).all()


def test_all_steps_are_measured_on_maps_that_are_read_once(rng, monkeypatch):
    maps = [rng.normal(size=(size, 2)) for size in (4, 6, 5, 3)]
    mates = {
        (t, 1): Mates(*[rng.permutation(3)[:n]] * 2) for t, n in enumerate((3, 0, 2))
    }
    steps = [metrics.displacement(maps, {pair: some}) for pair, some in mates.items()]
    readings = []
    read = motion.read_sequence
    monkeypatch.setattr(
        motion, "read_sequence", lambda *x, **y: readings.append(0) or read(*x, **y)
    )
    np.testing.assert_array_equal(report.displacement(maps, mates), steps)
    assert len(readings) == 2
    assert report.displacement(maps[:1], {}) == []


def test_maps_by_angle_are_measured_by_angle(fitted):
    data, embedding = fitted
    lengths = np.exp(np.random.default_rng(0).normal(size=(200, 1)))
    (rows,), maps = embedding.data, embedding.maps
    by_angle = replace(
        embedding, data=[lengths * rows], graph=aljax.GraphConfig(metric="cosine")
    )
    measured = report.measure(data, by_angle).trustworthiness
    normed = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert measured == [aljax.metrics.trustworthiness(normed, maps[0])]
    prepared = aljax.prepare(by_angle.data, key=KEY, graph=by_angle.graph)
    assert measure_row(maps, prepared) == {"trustworthiness": measured[0]}
    unknown = replace(embedding, data=[None])  # as of distances
    assert np.isnan(report.measure(data, unknown).trustworthiness).all()


@pytest.mark.parametrize(("kinds", "what"), [(40, "labels"), (41, "values")])
def test_numbers_of_many_kinds_are_no_classes(fitted, kinds, what):
    data, embedding = fitted
    numbered = replace(data, labels=[np.arange(200) % kinds / 4])
    assert [*contents.colors(numbered)] == [what]
    accuracy = report.measure(numbered, embedding).accuracy
    assert np.isnan(accuracy).all() == (what == "values")


def test_text_of_too_many_kinds_is_told_to_color_nothing(fitted):
    several = [np.array([f"row {row}" for row in range(n)]) for n in (200, 257)]
    assert [*contents.colors(replace(fitted[0], labels=several[:1]))] == ["labels"]
    with pytest.warns(UserWarning, match="more than 256 kinds"):
        assert contents.colors(replace(fitted[0], labels=several)) == {}


def test_slices_without_rows_or_with_few_neighbors_do_not_spoil_the_recall(fitted):
    data, embedding = fitted
    rows, graphs = [*embedding.data, data.slices[0][:0]], [*embedding.graphs] * 2
    graph = aljax.GraphConfig(n_neighbors=300)  # which the fit reduces
    few = replace(embedding, data=rows, graphs=graphs, maps=rows, graph=graph)
    assert report.graph_recall(few) == 1


def test_the_table_says_so(fitted, monkeypatch):
    data, embedding = fitted
    measures = report.measure(data, embedding)
    assert report.DRAWN not in report.table(data, measures)
    monkeypatch.setattr(report, "MEASURED", 120)
    assert report.table(data, measures).endswith(report.DRAWN)
