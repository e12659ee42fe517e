"""Run by test_distributed.py as each of several processes; process 0 prints JSON.

python on_processes.py PORT PROCESSES PROCESS_ID CASE
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from anndata import AnnData
from helpers import NEIGHBORS, make_data, make_maps, make_relations
from sklearn.neighbors import NearestNeighbors

import aljax
import aljax.distributed
from aljax.distributed import exchange

SIZES = (41, 48, 45, 43, 47)
HEARTBEAT = 10
FAR = 100
UNITS = [
    ("standard", "all", "error"),
    ("robust", "all", "median"),
    (None, "all", "median"),
    ("standard", "slice", "median"),
]


def fits(
    epochs: int,
    *,
    ids: bool = False,
    kappa: float = 0,
    times: int = 1,
    rows: bool = False,
    lacking: bool = False,
    unlike: bool = False,
    empty: bool = False,
    units: Mapping[str, Any] = {},
    progress=None,
) -> float:
    """The farthest that the maps of all processes are from those of one device."""
    sizes = (*SIZES[:3], 0, 0) if empty else SIZES * times
    data, relations = make_data(sizes), make_relations(SIZES * times)
    if units:
        data = [x.astype(float) * [1, 10, 1e4, 0.1, 1] + t for t, x in enumerate(data)]
        for t, x in enumerate(data if units["missing"] == "median" else []):
            x[t :: 1 if t == 1 else 7, t % 2] = np.nan  # a column of slice 1 is empty
    if unlike:  # a slice for each process, whose columns mean other things
        sizes = sizes[: jax.process_count()]
        data = [np.roll(x, 2 * t, axis=1) for t, x in enumerate(data[: len(sizes)])]
    lonely = ids and not kappa  # rows without an edge go to mates of other processes
    for t, x in enumerate(data if lonely else []):
        x[4 * t : 4 * t + 8] += FAR * np.arange(1, 9)[:, None]
    if ids or unlike or empty:
        relations = [list(range(size)) for size in sizes]
    options = {
        "key": jax.random.key(0),
        "graph": aljax.GraphConfig(
            n_neighbors=NEIGHBORS, disconnection_distance=FAR / 2 if lonely else None
        ),
        "layout": aljax.LayoutConfig(
            n_epochs=epochs, min_dist=([0.1, 0.2, 0.1, 0.3, 0] * times)[: len(sizes)]
        ),
        "alignment": aljax.AlignmentConfig(
            alignment_window_size=2, motion_fidelity=kappa
        ),
    }
    if ids and kappa:  # the ids are the rows' names
        data, relations = [*map(AnnData, data)], None
    count = len(sizes)
    own = aljax.distributed.share(count).own
    mine = data[own.start : own.stop]
    of_rows = about_rows(data) if rows else {}
    if lacking:  # starts of two slices, of another process's and its own
        starts = of_rows["start"]
        of_rows = {"start": [None, starts[1], *[None] * 2, *starts[4:]]}
    found: Any = aljax.distributed.fit(
        mine,
        relations,
        n_slices=count,
        progress=progress,
        **units,
        **{name: values[own.start : own.stop] for name, values in of_rows.items()},
        **options,
    )
    assert [len(one) for one in found.maps] == [sizes[t] for t in own]
    maps, history = aljax.distributed.gather(found, count)
    assert history.total().shape == (-(-epochs // 10),)
    one: Any = aljax.fit(data, relations, **units, **of_rows, **options)
    if units:
        for ours, its in zip(
            found.scaling.columns,
            one.scaling[own.start : own.stop].columns,
            strict=True,
        ):
            np.testing.assert_allclose(ours.center, its.center, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(ours.unit, its.unit, rtol=1e-9)
    pairs = zip(maps, one.maps, strict=True)
    lost = np.abs(np.asarray(history.total() / one.history.total())[0] - 1)
    assert lost < 1e-5
    size = FAR if rows else 1
    return max(float(np.abs(ours - its).max(initial=0)) / size for ours, its in pairs)


def shared_rows(metric: str, init: str, epochs: int) -> float:
    """How far the map of rows that processes share is from that of one device."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(150, 5)).astype(np.float32)
    options = {
        "key": jax.random.key(0),
        "graph": aljax.GraphConfig(n_neighbors=NEIGHBORS, metric=metric),
        "layout": aljax.LayoutConfig(init=init, n_epochs=epochs),
    }
    # Shares of several sizes, in which rows are not in the order of the map.
    cuts = [40, 90][: jax.process_count() - 1]
    mine = np.split(data, cuts)[jax.process_index()]
    found = aljax.distributed.fit_rows(mine, **options)
    one: Any = aljax.fit([data], **options)
    own = np.s_[:, found.own.start : found.own.stop]
    np.testing.assert_array_equal(data[found.own.start : found.own.stop], mine)
    lists = np.asarray(one.graphs[0].neighbors)
    np.testing.assert_array_equal(found.neighbors.indices, lists[own])
    lost = np.asarray(found.history.total() / one.history.total())[0] - 1
    assert abs(lost) < 1e-5
    return float(np.abs(found.positions - one.maps[0]).max())


def refused_rows(case: str) -> None:
    """Shares of other columns, or of too few rows."""
    second = jax.process_index() == 1
    shape = (3 if second and case == "few rows" else 40, 5)
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    data = data[:, : 4 if second and case == "other rows" else 5]
    aljax.distributed.fit_rows(data, key=jax.random.key(0))


def about_rows(data) -> dict[str, list]:
    """Pinned rows far away, weights, classes and neighbors, of some slices each."""
    masks = [np.arange(len(x)) < 12 * (t % 3) for t, x in enumerate(data)]
    classes = [np.arange(len(x)) % 4 for x in data]
    near = NearestNeighbors(n_neighbors=NEIGHBORS)
    tables = [near.fit(x).kneighbors(x)[::-1] for x in data]
    return {
        "start": [FAR * y for y in make_maps([*map(len, data)])],
        "pinned": [mask if mask.any() else None for mask in masks],
        "point_weights": [None, *[1.0 + one for one in classes[1:]]],
        "y": [*classes[:3], *[None] * (len(data) - 3)],
        "precomputed_knn": [None, *tables[1:]],
    }


def die(_) -> None:
    """Like a machine that is switched off, after the first epochs."""
    if jax.process_index() == int(os.environ["DIES"]):
        os.kill(os.getpid(), signal.SIGKILL)


def main(port: str, processes: str, process_id: str, case: str) -> None:
    aljax.distributed.connect(
        f"127.0.0.1:{port}",
        int(processes),
        int(process_id),
        log=None,
        heartbeat_timeout_seconds=HEARTBEAT,
    )
    exchange.CELLS = 1000  # so that columns come in several blocks
    assert jax.device_count() == 2 * int(processes)
    if case == "dies":
        fits(2000, progress=die)
        return
    if case in ("other rows", "few rows"):
        refused_rows(case)
    if case == "shared rows":
        found = {"pca": shared_rows("euclidean", "pca", 1)}
        found["random"] = shared_rows("cosine", "random", 1)
        with jax.enable_x64(True):
            found["double"] = shared_rows("euclidean", "pca", 20)
        if jax.process_index() == 0:
            print(json.dumps(found))
        return
    found = {"single": fits(1), "ids": fits(1, ids=True)}
    found["rows"] = fits(1, rows=True)
    found["lacking"] = fits(1, rows=True, lacking=True)
    with jax.enable_x64(True):  # whose sums are told apart by rounding only
        for scale, by, missing in UNITS:
            units = {"scale": scale, "scale_by": by, "missing": missing}
            found[f"{units}"] = fits(1, units=units)
        units = {"scale": "standard", "scale_by": "slice", "missing": "median"}
        found["empty"] = fits(1, empty=True, units=units)
    found["unlike"] = fits(1, unlike=True)
    found["motion"] = fits(1, kappa=1)
    found["anchors"] = fits(1, ids=True, kappa=1, times=3)
    with jax.enable_x64(True):
        found["double"] = fits(20)
        found["motion in double"] = fits(20, kappa=1)
    if jax.process_index() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
