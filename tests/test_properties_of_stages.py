"""Arguments of any kind to what stands alone: tables, inverses, measures, files."""

import dataclasses
import inspect
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from hostile import (  # noqa: F401
    FEATURES,
    LONG,
    ODD,
    counted,
    data,
    examples,
    ids,
    refusal,
    refused_for,
    scales,
    seeds,
    trial,
    unchecked,
)
from hypothesis import given
from hypothesis import strategies as st

import aljax
from aljax import files as io
from aljax import metrics
from aljax.config import InverseConfig, find_ab_params
from aljax.embedding import to_frame
from aljax.graph.build import build_graphs
from aljax.graph.slices import read_slices
from aljax.relations.mates import Mates
from aljax.selection import choose

# What an array of so many rows compiles for is compiled once.
points = st.sampled_from([1, 3, *[12] * 8, *([40, 300] * 4 if LONG else [])])


def names_of(function: Any) -> set[str]:
    fields = dataclasses.fields(InverseConfig)
    names = {*inspect.signature(function).parameters}
    return names | {one.name for one in fields} if "config" in names else names


@st.composite
def maps(draw: Any, rows: int, *, wrong: bool = True) -> Any:
    """Positions in a plane: the first two columns of any data."""
    made = draw(data(rows, wrong=wrong))
    made = np.array(made) if isinstance(made, list) and not wrong else made
    if isinstance(made, np.ndarray) and made.ndim == 2 and made.shape[1] > 1:
        return made[:, :2]
    return made


def is_no_count(value: Any) -> bool:
    """If a value cannot say how many rows there are."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return not (whole and value > 0)


@examples(4)
@given(data(9, wrong=False), st.integers(1, 9), st.integers(1, 12), st.data())
def test_windows_cover_rows_or_are_refused(rows, size, step, drawn):
    with trial("sliding_windows"):
        odd = drawn.draw(st.one_of(st.integers(-1, 0), ODD.filter(is_no_count)))
        refused_for("size", lambda: aljax.sliding_windows(rows, odd, step))
        refused_for("step", lambda: aljax.sliding_windows(rows, size, odd))
        windows, relations = aljax.sliding_windows(rows, size, step)
        assert len(windows) == (len(rows) - size) // step + 1
        assert all(len(one) == size for one in windows)
        assert len(relations) == len(windows) - 1


@examples(8)
@given(st.integers(1, 9), st.data())
def test_a_table_is_cut_into_all_its_rows(rows, drawn):
    labels = st.one_of(
        st.lists(st.integers(0, 2), min_size=rows, max_size=rows),
        st.lists(st.sampled_from([1, "a", None, 1.5, [1]]), max_size=rows),
        st.sampled_from([None, 3, "abc", np.eye(2)]),
    )
    fine = drawn.draw(st.booleans())
    if fine:
        labels = st.lists(st.integers(0, 2), min_size=rows, max_size=rows)
    given = (
        drawn.draw(data(rows, wrong=not fine)),
        drawn.draw(labels),
        drawn.draw(ids(rows, wrong=not fine)),
    )
    with trial("slices_from_table"):
        cut = refusal(
            lambda: aljax.slices_from_table(*given),
            names_of(aljax.slices_from_table),
            fine=fine,
        )
        if cut is not None:
            held = np.concatenate(cut.rows)
            assert sorted(held.tolist()) == list(range(rows))
            assert [len(one) for one in cut.slices] == [len(one) for one in cut.ids]


@examples(10)
@given(st.sampled_from([2, 9, 16]), st.sampled_from([0, 1, *[2, 3, 4] * 4]), st.data())
def test_neighbors_from_elsewhere_make_a_graph(rows, neighbors, drawn):
    rng = np.random.default_rng(drawn.draw(seeds))
    indices: Any = rng.integers(-1, rows, (rows, neighbors))
    distances: Any = rng.exponential(size=(rows, neighbors)) * drawn.draw(scales)
    odd = drawn.draw(st.integers(0, 9))
    if odd == 0:
        indices = drawn.draw(st.sampled_from([None, "a", indices + 1, indices * 1.5]))
    elif odd == 1:
        distances = drawn.draw(st.sampled_from([None, "a", -distances, 1e300 * rows]))
    elif odd == 2 and distances.size:
        distances[0, 0] = drawn.draw(st.sampled_from([np.nan, np.inf, 0, 1e300]))
    with trial("as_knn"):
        knn = refusal(
            lambda: aljax.as_knn(indices, distances),
            {*names_of(aljax.as_knn), "precomputed_knn"},
            fine=odd > 2 and neighbors > 1,
        )
        if knn is None:
            return
        assert knn.indices.shape == knn.distances.shape
        assert (np.asarray(knn.indices)[0] == np.arange(rows)).all()
        (graph,) = build_graphs(read_slices([knn]), aljax.GraphConfig())
        weights = np.asarray(graph.weights)
        assert ((weights >= 0) & (weights <= 1 + 1e-6)).all()


@examples(4)
@given(st.one_of(scales, st.floats()), st.one_of(st.floats(0, 1), st.floats()))
def test_a_curve_is_fitted_or_refused(spread, min_dist):
    with trial("find_ab_params"):
        found = refusal(
            lambda: find_ab_params(spread, min_dist),
            names_of(find_ab_params),
            fine=0.1 <= spread <= 10 and 0 <= min_dist <= spread / 2,
        )
        if found is not None:
            assert all(math.isfinite(one) and one > 0 for one in found)


# Each is a program of its own: CI compiles two of them.
KINDS = [
    {"method": "linear", "metric": "euclidean"},
    {"method": "mean", "metric": "cosine"},
]
if LONG:
    KINDS.append({"method": "mean", "metric": "euclidean"})
    KINDS.append({"method": "linear", "metric": "cosine"})


@st.composite
def inverses(draw: Any, *, fine: bool) -> dict[str, Any]:
    """What an inverse transform may be given, fitting together if `fine`."""
    rows = draw(st.just(12) if fine else points)
    given: dict[str, Any] = {
        "embedding": draw(maps(rows, wrong=not fine and draw(st.booleans()))),
        "data": draw(data(rows, wrong=not fine and draw(st.booleans()))),
        "n_neighbors": draw(st.sampled_from([5, 5, 5, None, 2] if LONG else [5])),
        **draw(st.sampled_from(KINDS)),
    }
    values = st.one_of(scales, st.floats(0.5, 3), ODD)
    odd = draw(st.integers(5 if fine else 0, 19))
    if odd == 0:
        given["n_neighbors"] = draw(st.sampled_from([rows, 1, 0, -1, 2.5, "2", True]))
    elif odd == 1:
        given["metric"] = draw(st.sampled_from([None, "manhattan", 3, []]))
    elif odd == 2:
        given["method"] = draw(st.sampled_from([None, "none", 3, []]))
    elif odd == 3:
        given["a"], given["b"] = draw(values), draw(values)
    elif odd == 4:
        given["a"] = draw(values)
    return given


BOUNDS = [None, None, "data", (0, 1), ([0] * FEATURES, 1)]
BAD_BOUNDS = [(-np.inf, np.inf), (1, 0), "x", (0,), 3, (None, 1), (np.nan, 1)]
BAD_BOUNDS.append(([0, 1], 1))


@examples(20)
@given(st.data(), st.booleans())
def test_positions_are_read_back_as_data(drawn, fine):
    given = drawn.draw(inverses(fine=fine))
    bounds = drawn.draw(st.sampled_from(BOUNDS if fine else BOUNDS + BAD_BOUNDS))
    queries = drawn.draw(maps(5, wrong=not fine and drawn.draw(st.booleans())))
    if isinstance(queries, np.ndarray):
        queries = queries[: drawn.draw(st.integers(0, 5))]
    with trial("inverse_transform"):
        found = refusal(
            lambda: aljax.inverse_transform(queries, **given, bounds=bounds),
            names_of(aljax.inverse_transform),
            fine=fine,
        )
        if found is None:
            return
        rows, columns = np.shape(given["data"])
        assert found.points.shape == (len(queries), columns)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        assert ((found.neighbors >= 0) & (found.neighbors < rows)).all()
        if np.abs(np.asarray(given["embedding"], float)).max() < 1e3:  # as in a map
            np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-3)


@examples(5)
@given(st.data(), st.booleans())
def test_a_gradient_map_is_finite(drawn, fine):
    given = drawn.draw(inverses(fine=fine))
    resolutions = [2, 3, 3] if fine else [2, 3, 3, 1, 10**4, 2.5, None]
    resolution = drawn.draw(st.sampled_from(resolutions))
    with trial("gradient_map"):
        found = refusal(
            lambda: aljax.gradient_map(**given, resolution=resolution),
            names_of(aljax.gradient_map),
            fine=fine,
        )
        if found is not None:
            assert found.norm.shape == (resolution,) * np.shape(given["embedding"])[1]
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


OF_ONE_MAP = ["trustworthiness", "continuity", "neighborhood_jaccard", "shepard"]
OF_ONE_MAP += ["neighborhood_preservation", "normalized_stress"]
OF_ONE_MAP += ["reconstruction_error"]
OF_ONE_MAP += ["neighborhood_hit", "knn_accuracy"]
BOUNDED = {"normalized_stress": (0, 1), "reconstruction_error": (0, math.inf)}
BOUNDED |= {"shepard": (-1, 1)}


@examples(16)
@given(st.data(), points, st.sampled_from(OF_ONE_MAP), st.booleans(), st.booleans())
def test_a_measure_of_a_map_is_in_its_range(drawn, rows, name, per_point, fine):
    measure, rows = getattr(metrics, name), 12 if fine else rows
    wrong = {"wrong": not fine}
    first, second = drawn.draw(data(rows, **wrong)), drawn.draw(maps(rows, **wrong))
    if name == "reconstruction_error":
        second = drawn.draw(data(rows, **wrong))
    if "labels" in names_of(measure):
        first, second = second, drawn.draw(ids(rows, **wrong))
    options: dict[str, Any] = {"per_point": per_point}
    if "n_neighbors" in names_of(measure):
        counts = [2, 2, 0.2] if fine else [2, 2, 0.1, 0, 99, None]
        options["n_neighbors"] = drawn.draw(st.sampled_from(counts))
    if "correlation" in names_of(measure):
        kinds = ["pearson", "spearman", "kendall"]
        options["correlation"] = drawn.draw(st.sampled_from(kinds))
    with trial("measures of a map"):
        found = refusal(
            lambda: measure(first, second, **options),
            names_of(measure) | {"data", "embedding"},
            fine=fine,
        )
        if found is None:
            return
        assert np.shape(found) == ((rows,) if per_point else ())
        low, high = BOUNDED.get(name, (0, 1))
        known = np.asarray(found)[~np.isnan(found)]
        assert ((known >= low - 1e-6) & (known <= high + 1e-6)).all()
        assert known.size or name.startswith(("shepard", "normalized_stress"))


OF_MOTION = ["displacement", "displacement_without_drift", "coherence"]
OF_MOTION += ["false_motion", "missed_motion", "stability"]


@examples(8)
@given(st.data(), points, st.sampled_from(OF_MOTION), st.booleans(), st.booleans())
def test_a_measure_of_motion_is_a_number(drawn, rows, name, per_point, fine):
    measure, rows, wrong = getattr(metrics, name), 12 if fine else rows, not fine
    rng = np.random.default_rng(drawn.draw(seeds))
    more = 0 if fine else drawn.draw(st.sampled_from([0, 0, 0, 1]))
    order = rng.permutation(rows + more)
    mates = {(0, 1): Mates(order, order[::-1].copy(), np.ones(order.size))}
    given = {
        "data": [drawn.draw(data(rows, wrong=wrong)) for _ in range(2)],
        "maps": [drawn.draw(maps(rows, wrong=wrong)) for _ in range(2)],
        "relations": mates if fine or drawn.draw(st.booleans()) else {},
        "n_neighbors": 2,
    }
    given = {one: given[one] for one in given if one in names_of(measure)}
    if name == "stability":
        kinds = ["pearson", "spearman", "stress"]
        given["correlation"] = drawn.draw(st.sampled_from(kinds))
    with trial("measures of motion"):
        found = refusal(
            lambda: measure(**given, per_point=per_point),
            {"data", *names_of(measure)},
            fine=fine,
        )
        if found is not None and not per_point:
            assert not math.isinf(found)


@examples(2)
@given(st.lists(st.floats(), max_size=4), st.floats(), st.integers(-2, 40))
def test_an_interval_holds_its_mean(values, level, draws):
    with trial("bootstrap_interval"):
        found = refusal(
            lambda: metrics.bootstrap_interval(values, level=level, draws=draws),
            names_of(metrics.bootstrap_interval),
            fine=0 < level < 1 and draws > 0 and all(abs(v) < 1e30 for v in values),
        )
        if found is not None:
            low, high = found
            assert low <= high or not values or math.isnan(low)


@examples(2)
@given(st.integers(1, 4), st.integers(2, 3), seeds)
def test_the_weight_that_is_chosen_is_one_that_was_tried(weights, n_seeds, seed):
    rng = np.random.default_rng(seed)
    tried = np.unique(rng.exponential(size=weights))
    hidden, trust = rng.random((2, tried.size, n_seeds))
    with trial("choose"):
        chosen, why = choose(tried, hidden, trust, reference=float(tried[-1]))
        assert chosen in tried
        assert f"{chosen:g}" in why


@examples(4)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data())
def test_a_frame_has_a_line_for_each_point(sizes, drawn):
    fine = drawn.draw(st.booleans())
    values = st.lists(ids(2), max_size=3)
    if fine:
        values = st.tuples(*[ids(n, wrong=False) for n in sizes])
    given = {
        name: drawn.draw(st.one_of(st.none(), values)) for name in ("ids", "labels")
    }
    with trial("to_frame"):
        frame = refusal(
            lambda: to_frame([np.zeros((n, 2)) for n in sizes], **given),
            names_of(to_frame),
            fine=fine,
        )
        assert frame is None or len(frame) == sum(sizes)


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats())
VALUES = st.one_of(
    LEAVES,
    st.lists(LEAVES, max_size=3),
    st.dictionaries(st.text(max_size=3), st.lists(LEAVES, max_size=2), max_size=3),
)


@examples(8)
@given(VALUES, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3))
def test_a_file_is_read_as_written_or_refused(value, changes):
    with trial("a file"), TemporaryDirectory() as folder:
        path = Path(folder) / "it"
        io.write(path, "it", {"value": value})
        content = bytearray(path.read_bytes())
        for place, byte in changes:
            content[place % len(content)] = byte
        path.write_bytes(content)
        found = refusal(lambda: io.read(path, "it"), {"path"})
        assert found is None or repr(found) == repr({"value": value})
