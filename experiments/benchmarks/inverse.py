"""The inverse transform against its rivals, on the same map and held-out rows.

    python -m experiments.benchmarks.inverse fashion

fits umap-learn's map (and ours), places the held-out rows by its own transform, lets
every method read those positions back, prints a table with bootstrap intervals and
writes `results/benchmarks/inverse_<case>.json`.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

import aljax
from aljax.metrics import bootstrap_interval
from experiments import command
from experiments.benchmarks.peers import load_umap
from experiments.clocks import clocked
from experiments.data.fashion import fashion_mnist
from experiments.data.packages import mnist_images
from experiments.data.sources import digits
from experiments.results.records import BENCHMARKS, made_folder, markdown, store

# The images of a case, their largest number, and how many are mapped and held out.
IMAGES: dict[str, tuple[Callable[[], Any], int, int, int]] = {
    "fashion": (fashion_mnist, 255, 5000, 1000),
    "digits": (digits, 16, 1597, 200),
    "mnist": (mnist_images, 255, 4800, 200),
}
FIRST = 200  # rows that the thresholds are read on
UMAP_LEARN = "umap-learn"


@dataclass(frozen=True)
class Placed:
    """A map with held-out rows placed on it.

    Attributes:
        rows: What was mapped.
        embedding: Where it lies.
        held: Rows that were not.
        positions: Where its transform places them.
        transform: Places more rows.
        model: umap-learn's model, where it made the map.
        curve: a and b of the map's membership curve.
    """

    rows: np.ndarray
    embedding: np.ndarray
    held: np.ndarray
    positions: np.ndarray
    transform: Callable[[np.ndarray], np.ndarray]
    model: Any
    curve: tuple[float, float]


def split(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows for the map and held-out rows, in a fixed random order."""
    load, scale, n_kept, n_held = IMAGES[case]
    rows = load()[0]
    order = np.random.default_rng(0).permutation(len(rows))
    pixels = rows[order[: n_kept + n_held]].astype(np.float32) / scale
    return pixels[:n_kept], pixels[n_kept:]


def place_by_umap_learn(rows: np.ndarray, held: np.ndarray) -> Placed:
    """Fits umap-learn's map (random_state 42), rows placed by its transform."""
    model: Any = load_umap().UMAP(random_state=42).fit(rows)
    positions = _in_parts(model.transform, held)
    curve = (float(model._a), float(model._b))
    placed = rows, model.embedding_, held, positions
    return Placed(*placed, model.transform, model, curve)


def place_by_aljax(rows: np.ndarray, held: np.ndarray) -> Placed:
    """Fits our map, rows placed by our transform."""
    fitted = aljax.fit([rows], key=jax.random.key(0))

    def transform(new: np.ndarray) -> np.ndarray:
        return aljax.transform(fitted, 0, np.asarray(new, np.float32))

    curve = (float(fitted.params.a[0]), float(fitted.params.b[0]))
    placed = rows, fitted.slices()[0], held, transform(held)
    return Placed(*placed, transform, None, curve)


MAKERS = {UMAP_LEARN: place_by_umap_learn, "aljax": place_by_aljax}


def _ours(placed: Placed, **options: Any) -> np.ndarray:
    a, b = placed.curve
    arrays = placed.positions, placed.embedding, placed.rows
    return np.asarray(aljax.inverse_transform(*arrays, a=a, b=b, **options).points)


def umap_inverse(placed: Placed) -> np.ndarray:
    """Calls umap-learn's inverse; a map of others is set as its own."""
    model = placed.model
    if model is None:
        model = load_umap().UMAP(random_state=42).fit(placed.rows)
        model.embedding_ = placed.embedding.astype(np.float32)
    positions = placed.positions.astype(np.float32)
    return _in_parts(model.inverse_transform, positions)


def _in_parts(call: Callable[[np.ndarray], Any], rows: np.ndarray) -> np.ndarray:
    """Calls on the first 200 rows, then on the others: figures are read on both."""
    parts = rows[:FIRST], rows[FIRST:]
    return np.concatenate([call(part) for part in parts if len(part)])


def _inverse_distances(placed: Placed) -> np.ndarray:
    model = KNeighborsRegressor(15, weights="distance")
    return model.fit(placed.embedding, placed.rows).predict(placed.positions)


def _chosen(model: Any, grid: dict[str, list[float]], placed: Placed) -> np.ndarray:
    """Predicts by a rival at its best settings, from 3-fold cross-validation."""
    scale = placed.embedding.std()
    search = GridSearchCV(model, grid, scoring="neg_mean_squared_error", cv=3)
    search.fit(placed.embedding / scale, placed.rows)
    return np.asarray(search.predict(placed.positions / scale))


def _mean(placed: Placed) -> np.ndarray:
    return np.broadcast_to(placed.rows.mean(axis=0), placed.held.shape)


PERCEPTRON = MLPRegressor(
    hidden_layer_sizes=(256, 256), early_stopping=True, max_iter=500, random_state=0
)
SMOOTHNESS = {"gamma": [3.0, 10.0, 30.0, 100.0], "alpha": [0.1, 1.0]}
DECODERS: dict[str, Callable[[Placed], np.ndarray]] = {
    "aljax": _ours,
    "aljax, mean": partial(_ours, method="mean"),
    UMAP_LEARN: umap_inverse,
    "inverse distances, k = 15": _inverse_distances,
    "kernel ridge (RBF)": partial(_chosen, KernelRidge(kernel="rbf"), SMOOTHNESS),
    "MLPRegressor": partial(_chosen, PERCEPTRON, {"alpha": [1e-4, 1e-2]}),
    "mean of all rows": _mean,
}


def compare(placed: Placed, methods: Sequence[str]) -> dict[str, Any]:
    """Returns every method's errors on one map, of 200 held-out rows and of all."""
    errors, results = {}, {}
    for method in methods:
        points, seconds = clocked(partial(DECODERS[method], placed))
        error = ((points - placed.held) ** 2).mean(axis=1)
        errors[method] = error
        results[method] = {
            "seconds": seconds,
            "mse_200": float(error[:FIRST].mean()),
            "interval_200": bootstrap_interval(error[:FIRST]),
            "mse": float(error.mean()),
            "interval": bootstrap_interval(error),
        }
        if method in ("aljax", UMAP_LEARN):
            moved = placed.transform(points[:FIRST]) - placed.positions[:FIRST]
            radius = np.sqrt(placed.embedding.var(axis=0).sum())
            distances = np.linalg.norm(moved, axis=1) / radius
            results[method]["round_trip_median"] = float(np.median(distances))
        print(f"  {method}: {results[method]}", flush=True)
    for method, error in errors.items():
        if "aljax" in errors:
            difference = errors["aljax"] - error
            results[method]["ours_less_this"] = bootstrap_interval(difference)
    return results


def speed() -> dict[str, float]:
    """Returns seconds of 100 and 10,000 warm queries on a map of Fashion-MNIST."""
    data = fashion_mnist()[0].astype(np.float32)
    rng = np.random.default_rng(0)
    # Clustered as a map is; what it costs does not depend on what is mapped.
    centers = rng.normal(scale=6, size=(10, 2))
    embedding = centers[rng.integers(10, size=len(data))]
    embedding = embedding + rng.normal(size=embedding.shape)
    forms = {
        "arrays on the device": (
            jnp.asarray(embedding, jnp.float32),
            jnp.asarray(data),
        ),
        "NumPy": (embedding, data),
    }
    medians = {}
    for (form, arrays), count in product(forms.items(), (100, 10_000)):
        queries = rng.normal(scale=5, size=(count, 2)).astype(np.float32)
        call = partial(aljax.inverse_transform, queries, *arrays)
        seconds = [clocked(call)[1] for _ in range(4)]
        medians[f"{count} queries, {form}"] = float(np.median(seconds[1:]))
    return medians


def table(results: dict[str, Any]) -> str:
    """Returns one line for each method, as Markdown."""
    rows = []
    for method, measured in results.items():
        difference = measured.get("ours_less_this")
        rows.append(
            {
                "method": method,
                "MSE, first 200": measured["mse_200"],
                "95 % of it": _range(measured["interval_200"]),
                "MSE, all": measured["mse"],
                "95 %": _range(measured["interval"]),
                "ours less this": _range(difference) if difference else "",
                "round trip": measured.get("round_trip_median", ""),
                "s": f"{measured['seconds']:.2f}",
            }
        )
    return markdown(rows)


def _range(ends: Sequence[float]) -> str:
    return "{:.4f} to {:.4f}".format(*ends)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a case from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.inverse")
    parser.add_argument("case", choices=[*IMAGES, "speed"])
    names = [*DECODERS]
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--maps", nargs="+", choices=MAKERS, default=[*MAKERS])
    parser.add_argument("--out", type=made_folder, default=BENCHMARKS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {"case": options.case}
    if options.case == "speed":
        results["seconds"] = speed()
        print(json.dumps(results["seconds"], indent=2))
    else:
        rows, held = split(options.case)
        for name in options.maps:
            print(f"{options.case}, map of {name}", flush=True)
            results[name] = compare(MAKERS[name](rows, held), options.methods)
            print(f"\n{table(results[name])}\n")
    store(f"inverse_{options.case}", results, options.out)
    return 0


if __name__ == "__main__":
    command.finish(main)
