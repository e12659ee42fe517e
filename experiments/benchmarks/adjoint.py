r"""Derivatives of finished layouts: seconds, and what differences of layouts say.

    python -m experiments.benchmarks.adjoint exact anchored unrolled --rows 300
    python -m experiments.benchmarks.adjoint anchored all-pairs --rows 5000 --float32
    python -m experiments.benchmarks.adjoint anchored --rows 35000 --float32 \
        --of weight --unchecked
    python -m experiments.benchmarks.adjoint exact --data baseball --seasons 8

Images sorted by ink, in two slices of which three quarters of the rows are mates:
digits up to 1,400 rows, Fashion-MNIST above; or batters of the seasons to 2020, 281 to
444 of them.  Each part differentiates a measure of distances by the weight of the
alignment, by min_dist and by a weight for the columns.  The layout is solved again in
double precision, and a step to both sides along the gradient; `--float32` finds the
minimum and its derivative in single precision.
`all-pairs` is `anchored` with all pairs that repel, however far apart.
"""

import argparse
import dataclasses
from functools import partial
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
from experiments import command
from experiments.benchmarks.race import check_known
from experiments.clocks import clocked, peak_memory
from experiments.data.baseball import baseball
from experiments.data.fashion import fashion_mnist
from experiments.data.sources import digits

STEP = 1e-4  # of central differences
DIGITS = 1_797
PARTS = ("exact", "anchored", "all-pairs", "unrolled")
VARIABLES = ("weight", "min_dist", "columns")


def data_of(options: argparse.Namespace) -> tuple[list[np.ndarray], Any]:
    """Returns the slices and their relations."""
    if options.data == "baseball":
        seasons = baseball(since=2021 - options.seasons)
        return [np.asarray(rows) for rows in seasons.slices], seasons.relations
    size, late = options.rows, options.rows // 4
    count = size + late
    if count <= DIGITS:
        images = digits()[0].astype(float)
    else:
        images = fashion_mnist(None)[0][:count].astype(np.float32)
    rows = images[images.sum(axis=1).argsort()]
    relation = {row: row - late for row in range(late, size)}
    return [rows[:size], rows[late : late + size]], [relation]


def outer(maps: jax.Array) -> jax.Array:
    """Returns a measure of distances, within the first map and to the last."""
    apart = jnp.sum((maps[0, :, :200] - maps[0, :, 100:300]) ** 2, axis=0)
    far = jnp.sum((maps[-1, :, :200] - maps[0, :, :200]) ** 2, axis=0)
    return jnp.sum(jnp.sqrt(apart + 1)) + jnp.sum(jnp.sqrt(far + 1))


def main() -> None:
    """Prints a line for each part and outer variable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["exact"], help=", ".join(PARTS))
    parser.add_argument("--data", choices=("images", "baseball"), default="images")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seasons", type=int, default=8)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--of", nargs="*", choices=VARIABLES, default=VARIABLES)
    parser.add_argument("--unchecked", action="store_true", help="no double precision")
    arguments = parser.parse_args()
    check_known(parser, "part", arguments.parts, PARTS)
    jax.config.update("jax_enable_x64", not arguments.float32)
    data = data_of(arguments)
    key = jax.random.key(0)
    (pieces, variables, start), seconds = clocked(partial(parts_of, *data, key))
    print(f"fit: {seconds:.1f} s", flush=True)
    tight = 1e-3 if arguments.float32 else 1e-6
    anchored = Anchored(tolerance=tight, rtol=tight / 10)
    ways: dict[str, Any] = {
        "exact": Implicit(tight, tight / 10),
        "anchored": anchored,
        # At the center and from the minimum of the part before.
        "all-pairs": dataclasses.replace(anchored, near=1e6, settle=0),
        "unrolled5": Unrolled(key, n_epochs=5, last=5),
        "unrolled20": Unrolled(key, n_epochs=20, last=20),
    }
    chosen = [name for name in ways if name.rstrip("0123456789") in arguments.parts]
    first_gradients: dict[str, np.ndarray] = {}
    initial = start
    for name in chosen:
        way = ways[name]
        searches = not isinstance(way, Unrolled)
        if searches:
            (way, start), seconds = clocked(partial(way.at, *pieces, start))
            initial = initial if name == "all-pairs" else start
            print(f"{name}: settled in {seconds:.1f} s", flush=True)
            way = dataclasses.replace(way, settle=0)
        for variable in arguments.of:
            through, value = variables[variable]
            options = {"start": initial, "of": value, "through": through}
            derivative, seconds = clocked(
                partial(hypergradient, outer, *pieces, **options, adjoint=way)
            )
            gradient = np.asarray(derivative.gradient, float)
            line = f"  {name} {variable}: {seconds:.1f} s"
            line += f", {int(derivative.products)} products"
            line += f", slope {float(derivative.solution.slope):.1e}"
            line += f", curvature {float(derivative.curvature):.3g}"
            if isinstance(way, Implicit):
                start = derivative.solution.maps
            if searches:
                initial = derivative.solution.maps
            if searches and not arguments.unchecked:
                change, double = in_double(pieces, derivative, way, (through, value))
                line += f", error {abs(np.linalg.norm(gradient) / change - 1):.1e}"
                line += f", cosine with double precision {cosine(gradient, double):.4f}"
            if variable in first_gradients:
                similarity = cosine(gradient, first_gradients[variable])
                line += f", with the first part {similarity:.3f}"
            first_gradients.setdefault(variable, gradient)
            print(line, flush=True)
    print(f"largest memory of the process: {peak_memory() / 2**10:.1f} GiB")


def parts_of(
    slices: list[np.ndarray], relations: Any, key: jax.Array
) -> tuple[Any, dict[str, Any], Any]:
    """Returns the problem and its settings, what to differentiate by, and the maps."""
    prepared = aljax.prepare(slices, relations, key=key)
    maps = aljax.fit(slices, relations, key=key).slices()
    start = stack_maps(maps, prepared.problem)
    neighbors = [graph.neighbors for graph in prepared.graphs]
    columns = Encoded([jnp.asarray(rows, start.dtype) for rows in slices], neighbors)
    variables = {
        "weight": (coupling_weights, jnp.ones(len(slices), start.dtype)),
        "min_dist": (min_dists, jnp.full(len(slices), 0.1, start.dtype)),
        "columns": (columns.columns, jnp.ones(slices[0].shape[1], start.dtype)),
    }
    return (prepared.problem, prepared.params), variables, start


def in_double(
    pieces: Any, derivative: Any, way: Any, variable: Any
) -> tuple[float, np.ndarray]:
    """Returns a difference of layouts along the gradient, and the gradient.

    Both in double precision, of the minimum beside the one that was found.
    """
    with jax.enable_x64(True):
        copies: Any = jax.tree.map(
            doubled, (derivative.solution.maps, pieces, way, variable)
        )
        initial, pieces, way, (through, value) = copies
        tight: dict[str, Any] = {"tolerance": 1e-6, "rtol": 1e-7, "settle": 0}
        way = dataclasses.replace(way, **tight)
        double = hypergradient(
            outer, *pieces, start=initial, of=value, through=through, adjoint=way
        )
        initial = double.solution.maps
        along = np.array(derivative.gradient, float)
        along /= np.linalg.norm(along)

        def measured_at(length: float) -> float:
            moved: Any = through(*pieces, value + length * along)
            return float(outer(solve_layout(*moved, start=initial, adjoint=way).maps))

        change = (measured_at(STEP) - measured_at(-STEP)) / (2 * STEP)
        return change, np.asarray(double.gradient)


def doubled(leaf: Any) -> Any:
    """Returns an array of numbers in double precision, and anything else as it is."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(np.asarray(leaf), jnp.float64)
    return leaf


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the cosine of two gradients."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.vdot(a, b) / lengths)


if __name__ == "__main__":
    command.finish(main)
