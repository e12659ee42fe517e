"""The evaluation: what is run, resumed, averaged and drawn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused

from experiments.benchmarks import peers
from experiments.benchmarks.peers import Problem
from experiments.command import MissingPeerError
from experiments.data.dataset import Dataset
from experiments.evaluation import gallery, methods, scores, tables
from experiments.evaluation import run as evaluation
from experiments.evaluation.dynamic_tsne import _affinities, _slice_gradient
from experiments.evaluation.methods import FAMILIES, GRID
from experiments.evaluation.profiles import PROFILES, Profile
from experiments.evaluation.run import Row

POINTS, SLICES = 48, 3


@pytest.fixture
def dataset(rng) -> Dataset:
    """Two groups, of which one drifts."""
    labels = np.arange(POINTS) % 2
    cloud = rng.normal(size=(POINTS, 4)) + 6 * labels[:, None]
    step = rng.normal(size=(SLICES, POINTS, 4)) * (0.1 + labels[:, None])
    rows = np.arange(POINTS)
    return Dataset(
        slices=[(cloud + move).astype(np.float32) for move in step],
        relations=[dict(zip(rows.tolist(), rows.tolist(), strict=True))] * (SLICES - 1),
        ids=[rows] * SLICES,
        titles=[""] * SLICES,
        labels=[labels] * SLICES,
    )


def problem(dataset: Dataset) -> Problem:
    return Problem(dataset.slices, dataset.relations)


def first_columns(data: Problem, seed: int) -> dict:
    return {"plane": [one[:, :2] + seed for one in data.slices]}


def missing(data: Problem, seed: int) -> dict:
    del data, seed
    raise MissingPeerError("nobody is not installed; run: pip install nobody")


def broken(data: Problem, seed: int) -> dict:
    del data, seed
    raise RuntimeError("oh")


@pytest.fixture
def small(dataset, monkeypatch) -> Profile:
    monkeypatch.setattr(evaluation, "load", lambda *_: dataset)
    families = {"plane": first_columns, "nobody": missing, "broken": broken}
    return Profile({"drift": {}}, families, seeds=(0, 1))


def run(profile, path, methods, **options):
    return evaluation.run(
        profile, path, sequences=["drift"], methods=methods, **options
    )


def test_a_run_that_is_stopped_goes_on(small, tmp_path, capsys):
    path = tmp_path / "new" / "small.csv"
    rows, failed = run(small, path, ["plane", "nobody", "broken"])
    assert failed == 2
    said = capsys.readouterr().out
    assert "nobody left out: nobody is not installed; run: pip" in said
    assert "broken failed on drift: RuntimeError('oh')" in said
    assert {row.method for row in rows} == {"plane"}
    assert {row.seed for row in rows} == {0, 1}
    written = evaluation.read(path)
    assert [row[:4] for row in written] == [row[:4] for row in rows]
    values = [[row.value for row in some] for some in (written, rows)]
    np.testing.assert_allclose(*values, rtol=1e-5)
    evaluation.write(path, [row for row in written if row.seed == 0])
    run(small, path, ["plane"])
    said = capsys.readouterr().out
    assert "seed 1, drift, plane" in said
    assert "seed 0" not in said
    run(small, path, ["plane"], again=["plane"])
    assert "seed 0, drift, plane" in capsys.readouterr().out
    assert len(evaluation.read(path)) == len(rows)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "full.csv"
    path.write_text("a,b\n1,2\n")
    with refused("--out", str(path), "['a', 'b']"):
        evaluation.read(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "UMAP, each slic"], "did you mean `UMAP, each slice`"),
        (["--sequences", "gausians"], "did you mean `gaussians`"),
        (
            ["--profile", "tuning", "--again", "aljax 9 9"],
            "no method of tuning `aljax 9 9`",
        ),
        (["--jobs", "0"], "`--jobs` is 0; expected at least 1"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit):
        evaluation.main(arguments)
    assert said in capsys.readouterr().err


def test_every_measure_is_there_and_has_its_direction(dataset):
    planes = [one[:, :2] for one in dataset.slices]
    good = scores.score(dataset, planes)
    chance = np.random.default_rng(0)
    bad = scores.score(dataset, [chance.normal(size=one.shape) for one in planes])
    assert {*tables.COLUMNS} <= {*good}
    for name in (tables.PRESERVATION, tables.STABILITY, "neighborhood_hit"):
        assert good[name] > bad[name] + 0.1


def lines(values: dict[str, dict[str, list[float]]], metric: str) -> list[Row]:
    return [
        Row(method, sequence, metric, seed, value)
        for method, of in values.items()
        for sequence, found in of.items()
        for seed, value in enumerate(found)
    ]


@pytest.fixture
def rows():
    nan = float("nan")
    kept = {"A": {"s": [0.2, 0.4], "t": [0.5, 0.5], "u": [0.9]}, "B": {"s": [0.8]}}
    moved = {"A": {"s": [0.1, 0.1], "t": [0.3, 0.5], "u": [nan]}, "B": {"s": [0.7]}}
    return lines(kept, tables.PRESERVATION) + lines(moved, tables.STABILITY)


def test_averages_are_over_sequences_that_move_and_all_of_them(rows):
    assert tables.moving(rows) == ["s", "t"]
    mean, low, high = tables.average(rows, "A", ["s", "t"], tables.PRESERVATION)
    np.testing.assert_allclose([mean, low, high], [0.4, 0.35, 0.45])
    assert np.isnan(tables.average(rows, "B", ["s", "t"], tables.PRESERVATION)).all()


def test_the_table_says_averages_and_every_sequence(rows):
    table = tables.table(rows)
    assert "Averages over s, t:" in table
    assert "| A | .400 (.350 to .450) | .250 (.200 to .300) |" in table
    assert "| B | - | - |" in table
    assert "| A | .300 / .100 | .500 / .400 | .900 / - |" in table
    assert "| B | .800 / .700 | - / - | - / - |" in table
    still = tables.table([row for row in rows if row.sequence == "u"])
    assert still.startswith("Averages over u:")


def test_the_figure_has_a_point_for_each_method_in_each_panel(rows):
    figure = tables.figure(rows)
    assert [axis.get_title() for axis in figure.axes] == ["average", "s", "t"]
    assert all(len(axis.collections) == 2 for axis in figure.axes)


def test_profiles_have_the_same_sequences_and_known_methods():
    assert {*PROFILES["full"].sequences} == {*PROFILES["quick"].sequences}
    assert {*PROFILES["tuning"].sequences} < {*PROFILES["full"].sequences}
    assert PROFILES["tuning"].data_seed != PROFILES["full"].data_seed
    assert PROFILES["full"].families is FAMILIES
    assert {*PROFILES["full"].once} < {*FAMILIES}
    assert PROFILES["tuning"].families is GRID


@pytest.mark.slow
def test_every_family_is_keyed_by_a_method_it_gives(dataset):
    for name in ("PCA, each slice", methods.OURS_WITH_MOTION, "dynamic t-SNE"):
        found = FAMILIES[name](problem(dataset), 0)
        assert name in found
        for maps in found.values():
            assert [one.shape for one in maps] == [(POINTS, 2)] * SLICES
            assert np.isfinite(maps).all()


def test_rows_without_a_mate_start_where_the_nearest_with_one_does(monkeypatch):
    started = []

    def fake(rows, seed, *, initialization=None, **_):
        del seed
        started.append(initialization)
        return rows[:, :2] if initialization is None else initialization

    monkeypatch.setattr(peers, "tsne", fake)
    before = np.arange(6.0).reshape(3, 2)
    after = np.array([[9.0, 9.0], [0.0, 0.0], [8.0, 9.0]])
    data = Problem([before, after], [{0: 1, 2: 2}])
    methods.tsne_continued(data, 0)
    np.testing.assert_allclose(started[1], before[[2, 0, 2]], atol=1e-3)


def test_affinities_have_the_perplexity_asked_for(rng):
    rows = rng.normal(size=(30, 3)).astype(np.float32)
    found = np.asarray(_affinities(jnp.asarray(rows), 7.0), dtype=float)
    gaps = ((rows[:, None] - rows) ** 2).sum(axis=2).astype(float)
    expected = np.zeros((30, 30))
    for i in range(30):
        low, high, p = 1e-6, 1e6, np.zeros(29)
        others = np.delete(np.arange(30), i)
        for _ in range(200):
            beta = (low * high) ** 0.5
            p = np.exp(-beta * (gaps[i, others] - gaps[i, others].min()))
            p /= p.sum()
            entropy = -sum(p * np.log(p + 1e-300))
            low, high = (beta, high) if entropy > np.log(7) else (low, beta)
        expected[i, others] = p
    expected = (expected + expected.T) / 60
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)


def test_the_gradient_of_t_sne_is_that_of_the_divergence(rng):
    y = rng.normal(size=(12, 2))
    p = rng.uniform(size=(12, 12))
    p = (p + p.T) * (1 - np.eye(12))
    p /= p.sum()

    def divergence(y):
        near = 1 / (1 + ((y[:, None] - y) ** 2).sum(axis=2)) * (1 - np.eye(12))
        q = near / near.sum()
        inside = p > 0
        return float((p[inside] * np.log(p[inside] / q[inside])).sum())

    found = jax.jit(_slice_gradient)(y, p, np.ones(12, dtype=bool))
    found = np.asarray(found)
    for i, c in ((0, 0), (7, 1)):
        nudge = np.zeros_like(y)
        nudge[i, c] = 1e-5
        slope = (divergence(y + nudge) - divergence(y - nudge)) / 2e-5
        np.testing.assert_allclose(found[i, c], slope, rtol=1e-3, atol=1e-6)


def test_a_strong_penalty_holds_dynamic_maps_together(dataset):
    start = [one[:, :2] * 1e-4 for one in dataset.slices]

    def moved(penalty):
        maps = methods.dynamic_tsne(
            dataset.slices, dataset.relations, start, penalty=penalty
        )
        spread = np.concatenate(maps).std()
        return np.abs(np.diff(maps, axis=0)).mean() / spread

    assert moved(0.3) < 0.9 * moved(0.0)


def test_the_gallery_has_five_steps_of_each_sequence(dataset):
    figure = gallery.gallery({"one": dataset, "two": dataset})
    assert len(figure.axes) == 2 * gallery.STEPS
    assert [figure.axes[i].get_ylabel() for i in (0, 5)] == ["one", "two"]


def test_slow_methods_are_fitted_for_the_first_seed(small, tmp_path):
    rows, _ = run(
        replace(small, seeds=(4, 5), once=["plane"]), tmp_path / "a.csv", ["plane"]
    )
    assert {row.seed for row in rows} == {4}


@pytest.mark.slow
def test_two_processes_write_what_one_does(tmp_path):
    profile = Profile(
        {"walk": {"slices": 7, "points": 60}},  # enough for every measure
        {"PCA, each slice": PROFILES["full"].families["PCA, each slice"]},
        seeds=(0, 1),
    )
    found = []
    for jobs in (1, 2):
        path = tmp_path / f"{jobs}.csv"
        rows, failed = evaluation.run(
            profile, path, sequences=["walk"], methods=[*profile.families], jobs=jobs
        )
        assert not failed
        found.append({row for row in rows if row.metric != "seconds"})
    assert found[0] == found[1]
    assert {row.seed for row in found[0]} == {0, 1}


def test_the_command_line_chooses_what_is_run(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(evaluation.PROFILES, "quick", small)
    options = ["--profile", "quick", "--methods", "plane", "--seeds", "3", "5"]
    assert evaluation.main([*options, "--jobs", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "seed 3, drift, plane" in said
    assert {row.seed for row in evaluation.read(tmp_path / "quick.csv")} == {3, 5}
    assert (tmp_path / "quick.md").read_text().strip() in said
    assert (tmp_path / "quick.png").exists()
