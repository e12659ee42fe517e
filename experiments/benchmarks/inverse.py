"""The inverse transform against its rivals, on the same map and held-out rows.

    python -m experiments.benchmarks.inverse fashion

fits umap-learn's map (and ours), places the held-out rows by its own transform, lets
every method read those positions back, prints a table with bootstrap intervals and
writes `results/benchmarks/inverse_<case>.json`.
"""

import argparse
import json
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from aljax import inverse_transform
from aljax.metrics import bootstrap_interval
from experiments import command
from experiments.benchmarks.decoders import (
    DECODERS,
    UMAP_LEARN,
    Placed,
    place_by_aljax,
    umap_map,
)
from experiments.clocks import clocked
from experiments.data.fashion import fashion_mnist
from experiments.data.packages import mnist_images
from experiments.data.sources import digits
from experiments.results.records import BENCHMARKS, made_folder, markdown, store

SPLITS = {"fashion": (5000, 1000), "digits": (1597, 200), "mnist": (4800, 200)}
FIRST = 200  # rows that the thresholds are read on


def split(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows for the map and held-out rows, in a fixed random order."""
    if case == "fashion":
        rows, scale = fashion_mnist()[0], 255
    elif case == "mnist":
        rows, scale = mnist_images()[0], 255
    else:
        rows, scale = digits()[0], 16
    order = np.random.default_rng(0).permutation(len(rows))
    n_kept, n_held = SPLITS[case]
    pixels = rows[order[: n_kept + n_held]].astype(np.float32) / scale
    return pixels[:n_kept], pixels[n_kept:]


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
            placed_again = placed.transform(points[:FIRST])
            radius = np.sqrt(placed.embedding.var(axis=0).sum())
            distances = (
                np.linalg.norm(placed_again - placed.positions[:FIRST], axis=1) / radius
            )
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
    medians = {}
    device = jnp.asarray(embedding, jnp.float32), jnp.asarray(data)
    for name, arrays in (
        ("arrays on the device", device),
        ("NumPy", (embedding, data)),
    ):
        for count in (100, 10_000):
            queries = rng.normal(scale=5, size=(count, 2)).astype(np.float32)
            call = partial(inverse_transform, queries, *arrays)
            seconds = [clocked(call)[1] for _ in range(4)]
            medians[f"{count} queries, {name}"] = float(np.median(seconds[1:]))
    return medians


def table(results: dict[str, Any]) -> str:
    """Returns one line for each method, as Markdown."""
    rows = []
    for method, measured in results.items():
        row = {"method": method, "MSE, first 200": measured["mse_200"]}
        row |= {"95 % of it": _range(measured["interval_200"])}
        row |= {"MSE, all": measured["mse"], "95 %": _range(measured["interval"])}
        difference = measured.get("ours_less_this")
        row["ours less this"] = _range(difference) if difference else ""
        row["round trip"] = measured.get("round_trip_median", "")
        rows.append(row | {"s": f"{measured['seconds']:.2f}"})
    return markdown(rows)


def _range(ends: Sequence[float]) -> str:
    return "{:.4f} to {:.4f}".format(*ends)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a case from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.inverse")
    parser.add_argument("case", choices=[*SPLITS, "speed"])
    parser.add_argument(
        "--methods", nargs="+", choices=[*DECODERS], default=[*DECODERS]
    )
    makers = {UMAP_LEARN: umap_map, "aljax": place_by_aljax}
    parser.add_argument("--maps", nargs="+", choices=makers, default=[*makers])
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
            results[name] = compare(makers[name](rows, held), options.methods)
            print(f"\n{table(results[name])}\n")
    store(f"inverse_{options.case}", results, options.out)
    return 0


if __name__ == "__main__":
    command.finish(main)
