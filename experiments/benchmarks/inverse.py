"""The inverse transform against its rivals, on the same map and held-out rows.

    python -m experiments.benchmarks.inverse fashion

fits umap-learn's map (and ours), places the held-out rows by its own transform, lets
every method read those positions back, prints a table with bootstrap intervals and
writes `results/benchmarks/inverse_<case>.json`.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.decoders import (
    DECODERS,
    UMAP_LEARN,
    Placed,
    place_by_aljax,
    umap_map,
)
from experiments.benchmarks.race import machine
from experiments.data.fashion import fashion_mnist
from experiments.data.images import mnist_images

SPLITS = {"fashion": (5000, 1000), "digits": (1597, 200), "mnist": (4800, 200)}
FIRST = 200  # rows that the thresholds are read on
RESAMPLES = 2000


def split(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows for the map and held-out rows, pixels in [0, 1], in a fixed random order."""
    if case == "fashion":
        rows, scale = fashion_mnist()[0], 255
    elif case == "mnist":
        rows, scale = mnist_images()[0], 255
    else:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        rows, scale = digits.data, 16
    order = np.random.default_rng(0).permutation(len(rows))
    kept, held = SPLITS[case]
    pixels = rows[order[: kept + held]].astype(np.float32) / scale
    return pixels[:kept], pixels[kept:]


def interval(errors: np.ndarray) -> list[float]:
    """The 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(errors), (RESAMPLES, len(errors)))
    return np.percentile(errors[drawn].mean(axis=1), [2.5, 97.5]).tolist()


def compare(placed: Placed, methods: Sequence[str]) -> dict[str, Any]:
    """Every method's errors on one map, of 200 held-out rows and of all."""
    errors, results = {}, {}
    for method in methods:
        began = time.perf_counter()
        points = DECODERS[method](placed)
        seconds = time.perf_counter() - began
        error = ((points - placed.held) ** 2).mean(axis=1)
        errors[method] = error
        results[method] = {
            "seconds": seconds,
            "mse_200": float(error[:FIRST].mean()),
            "interval_200": interval(error[:FIRST]),
            "mse": float(error.mean()),
            "interval": interval(error),
        }
        if placed.transform is not None and method in ("aljax", UMAP_LEARN):
            again = placed.transform(points[:FIRST])
            radius = np.sqrt(placed.embedding.var(axis=0).sum())
            away = np.linalg.norm(again - placed.positions[:FIRST], axis=1) / radius
            results[method]["round_trip_median"] = float(np.median(away))
        print(f"  {method}: {results[method]}", flush=True)
    for method, error in errors.items():
        if "aljax" in errors:
            difference = errors["aljax"] - error
            results[method]["ours_less_this"] = interval(difference)
    return results


def speed(rows: int = 70_000) -> dict[str, float]:
    """Seconds for 100 and 10,000 queries on a map of Fashion-MNIST, warm."""
    import jax
    import jax.numpy as jnp

    from aljax import inverse_transform

    data = fashion_mnist()[0][:rows].astype(np.float32)
    rng = np.random.default_rng(0)
    # Clustered as a map is; what it costs does not depend on what is mapped.
    centers = rng.normal(scale=6, size=(10, 2))
    embedding = centers[rng.integers(10, size=rows)] + rng.normal(size=(rows, 2))
    found = {}
    device = jnp.asarray(embedding, jnp.float32), jnp.asarray(data)
    for name, arrays in (
        ("arrays on the device", device),
        ("NumPy", (embedding, data)),
    ):
        for count in (100, 10_000):
            queries = rng.normal(scale=5, size=(count, 2)).astype(np.float32)
            seconds = []
            for _ in range(4):
                began = time.perf_counter()
                jax.block_until_ready(inverse_transform(queries, *arrays))
                seconds.append(time.perf_counter() - began)
            found[f"{count} queries, {name}"] = float(np.median(seconds[1:]))
    return found


def table(results: dict[str, Any]) -> str:
    """One line for each method, as Markdown."""
    lines = [
        "| method | MSE, first 200 | 95 % | MSE, all | 95 % | ours less this | "
        "round trip | s |",
        "|---" * 8 + "|",
    ]
    for method, one in results.items():
        spans = [
            "{:.4f} to {:.4f}".format(*one[name]) if name in one else ""
            for name in ("interval_200", "interval", "ours_less_this")
        ]
        trip = f"{one['round_trip_median']:.3f}" if "round_trip_median" in one else ""
        lines.append(
            f"| {method} | {one['mse_200']:.4f} | {spans[0]} | {one['mse']:.4f} | "
            f"{spans[1]} | {spans[2]} | {trip} | {one['seconds']:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a case from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.inverse")
    parser.add_argument("case", choices=[*SPLITS, "speed"])
    parser.add_argument(
        "--methods", nargs="+", choices=[*DECODERS], default=[*DECODERS]
    )
    parser.add_argument("--maps", nargs="+", default=[UMAP_LEARN, "aljax"])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {"case": asked.case, "machine": machine()}
    if asked.case == "speed":
        results["seconds"] = speed()
        print(json.dumps(results["seconds"], indent=2))
    else:
        rows, held = split(asked.case)
        makers = {UMAP_LEARN: umap_map, "aljax": place_by_aljax}
        for name in asked.maps:
            print(f"{asked.case}, map of {name}", flush=True)
            results[name] = compare(makers[name](rows, held), asked.methods)
            print(f"\n{table(results[name])}\n")
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / f"inverse_{asked.case}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
