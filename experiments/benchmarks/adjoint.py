"""Derivatives of finished layouts: seconds, and what differences of layouts say.

    python -m experiments.benchmarks.adjoint exact anchored unrolled --rows 300

Digits sorted by ink, in two slices of which three quarters of the rows are mates.  Each
part differentiates a measure of distances by the weight of the alignment, by min_dist
and by a weight for the columns, along a direction, and solves the layout again a step
to both sides.  `--float32` reads single precision, and compares derivatives with those
of the minimum beside it in double precision; `--noise 5000` lays out rows of
noise around 20 centers instead, in slices of so many rows.
"""

import argparse
import dataclasses
import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import aljax
from aljax.layout import (
    Anchored,
    Encoded,
    Implicit,
    Unrolled,
    coupling_weights,
    hypergradient,
    min_dists,
    solve_layout,
    stack_maps,
)

STEP = 1e-4  # of central differences


def data_of(options: argparse.Namespace) -> tuple[list[np.ndarray], list[dict]]:
    """Returns two slices, and their relation."""
    if options.noise:
        rng = np.random.default_rng(0)
        centers = rng.normal(size=(20, 32))
        places = rng.integers(20, size=options.noise * 5 // 4)
        rows = 3 * centers[places] + rng.normal(size=(len(places), 32))
    else:
        from sklearn.datasets import load_digits

        images: Any = load_digits()
        rows = images.data[images.data.sum(axis=1).argsort()]
    size = options.noise or options.rows
    late = size // 4
    relation = {row: row - late for row in range(late, size)}
    return [rows[:size], rows[late : late + size]], [relation]


def outer(maps: jax.Array) -> jax.Array:
    """Returns mates' distances, weighted by their places: of distances only."""
    apart = jnp.sum((maps[0, :, :200] - maps[0, :, 100:300]) ** 2, axis=0)
    far = jnp.sum((maps[1, :, :200] - maps[0, :, :200]) ** 2, axis=0)
    return jnp.sum(jnp.sqrt(apart + 1)) + jnp.sum(jnp.sqrt(far + 1))


def main() -> None:
    """Prints a line for each part and outer variable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["exact"])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--noise", type=int, default=0)
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", not options.float32)
    data = data_of(options)
    key = jax.random.key(0)
    began = time.perf_counter()
    start = fitted(*data, key)
    print(f"fit: {time.perf_counter() - began:.1f} s", flush=True)
    pieces, variables = parts_of(*data, key, start)
    tight = 1e-3 if options.float32 else 1e-6
    ways: dict[str, Any] = {
        "exact": Implicit(tight, tight / 10),
        "anchored": Anchored(tolerance=tight, rtol=tight / 10),
        **{
            f"unrolled{last}": Unrolled(key, n_epochs=last, last=last)
            for last in (5, 20)
        },
    }
    chosen = [name for name in ways if name.rstrip("0123456789") in options.parts]
    true: dict[str, np.ndarray] = {}
    for name in chosen:
        began = time.perf_counter()
        way = ways[name]
        if isinstance(way, Implicit | Anchored):
            way, start = jax.block_until_ready(way.at(*pieces, start))
            print(f"{name}: settled in {time.perf_counter() - began:.1f} s", flush=True)
        if isinstance(way, Implicit):
            way = dataclasses.replace(way, settle=0)
            start = solve_layout(*pieces, start, adjoint=way).maps.block_until_ready()
            print(f"  minimum after {time.perf_counter() - began:.1f} s", flush=True)
        for variable, (through, of) in variables.items():
            began = time.perf_counter()
            found = derivative(pieces, start, way, through, of)
            gradient = np.asarray(found.gradient, float).ravel()
            seconds = time.perf_counter() - began
            line = (
                f"  {name} {variable}: {seconds:.1f} s, {int(found.products)} products"
            )
            line += f", slope {float(found.solution.slope):.1e}"
            line += f", curvature {float(found.curvature):.3g}"
            if options.float32 and name == "exact":
                double = in_double(data, key, start, variable)
                line += f", cosine with double precision {cosine(gradient, double):.4f}"
            elif isinstance(way, Implicit | Anchored):
                wrong = _error(found, way, start, pieces, through, of)
                line += f", error {wrong:.1e}"
            if variable in true:
                alike = cosine(gradient, true[variable])
                line += f", cosine with the first {alike:.3f}"
            true.setdefault(variable, gradient)
            print(line, flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory of the process: {memory:.1f} GB")


def fitted(slices: list[np.ndarray], relations: list[dict], key: jax.Array) -> Any:
    """Returns the maps of `fit`, stacked."""
    prepared = aljax.prepare(slices, relations, key=key)
    maps = aljax.fit(slices, relations, key=key).slices()
    return stack_maps(maps, prepared.problem)


def parts_of(
    slices: list[np.ndarray], relations: list[dict], key: jax.Array, start: jax.Array
) -> tuple[Any, dict[str, Any]]:
    """Returns the problem with its settings, and what to differentiate by."""
    prepared = aljax.prepare(slices, relations, key=key)
    neighbors = [graph.neighbors for graph in prepared.graphs]
    columns = Encoded([jnp.asarray(rows, start.dtype) for rows in slices], neighbors)
    variables = {
        "weight": (coupling_weights, jnp.ones(2, start.dtype)),
        "min_dist": (min_dists, jnp.full(2, 0.1, start.dtype)),
        "columns": (columns.columns, jnp.ones(slices[0].shape[1], start.dtype)),
    }
    return (prepared.problem, prepared.params), variables


def derivative(
    pieces: Any, start: jax.Array, way: Any, through: Any, of: jax.Array
) -> Any:
    """Returns the derivative of `outer` by one variable."""
    return hypergradient(
        outer, *pieces, start=start, of=of, through=through, adjoint=way
    )


def in_double(data: Any, key: jax.Array, start: jax.Array, variable: str) -> np.ndarray:
    """Returns the derivative at the minimum in double precision beside a start."""
    with jax.enable_x64(True):
        begun = jnp.asarray(np.asarray(start), jnp.float64)
        pieces, variables = parts_of(*data, key, begun)
        exact = Implicit(1e-8, 1e-8, settle=0)
        found = derivative(pieces, begun, exact, *variables[variable])
        return np.asarray(found.gradient).ravel()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the cosine of two gradients."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _error(
    found: Any, way: Any, start: jax.Array, pieces: Any, through: Any, of: jax.Array
) -> float:
    """Returns how far a derivative lies from central differences of layouts."""
    direction = of * (1 if of.size == 2 else jnp.cos(jnp.arange(of.size)))

    def at(length: float) -> float:
        graphs, settings = through(*pieces, of + length * direction)
        return float(outer(solve_layout(graphs, settings, start, adjoint=way).maps))

    along = float(jnp.vdot(found.gradient, direction))
    return abs((at(STEP) - at(-STEP)) / (2 * STEP) / along - 1)


if __name__ == "__main__":
    main()
