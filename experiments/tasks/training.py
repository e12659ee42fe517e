"""Training through a layout: the outer loop that the bilevel tasks share.

    x <- x - rate Adam(d outer(Y(x)) / dx),   Y(x) = argmin_Y L(Y; x)

x encodes the rows of the slices.  Which rows are neighbors, which mates there are and
where the layout starts are found anew every few steps, on the host; between, the
derivative goes through everything else.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

import aljax
from aljax.checks import number, one_of
from aljax.config import LayoutConfig
from aljax.errors import InputError
from aljax.graph.exact import exact_knn
from aljax.layout import Anchored, Encoded, Implicit, Unrolled
from aljax.metrics import displacement
from aljax.relations.mates import Mates
from experiments.data import sources
from experiments.interrupts import Interrupts
from experiments.results.folder import folder_beside, publish
from experiments.results.records import write_json
from experiments.settings import RunSettings

NEIGHBORS = 15
JUDGED = 21  # rows of a map, of which 10 neighbors vote
Rows = list[Float[Array, "_ features"]]
Links = Sequence[dict[int, int]] | None
Derivative = Callable[..., Any]  # `aljax.hypergradient` of all but what is trained
ADJOINTS: dict[str, Any] = {
    "anchored": Anchored,
    "implicit": Implicit,
    "unrolled": partial(Unrolled, jax.random.key(0)),
}
NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("steps", "refresh"), number(1, whole=True)),
    **dict.fromkeys(("rate", "map_rate"), number(0, open_low=True)),
}


class Training(NamedTuple):
    """Settings of a training.

    Attributes:
        steps: Of the optimizer.
        rate: Its first learning rate, which falls to 0 along a cosine.
        refresh: Steps between two searches for neighbors.
        map_rate: The learning rate of the layouts.
        adjoint: How layouts are differentiated.
    """

    steps: int
    rate: float
    refresh: int
    map_rate: float
    adjoint: Anchored | Implicit | Unrolled


def read_training(values: Any, adjoint: str | None = None) -> Training:
    """Returns the checked settings of a training, as `task.training` has them.

    Args:
        values: A mapping with `NUMBERS`, the name of an `adjoint`, and for each adjoint
            the options that it takes, by its name.
        adjoint: The adjoint to take instead.

    Raises:
        InputError: A name is missing or unknown, or a value is out of range.
    """
    known = {*NUMBERS, "adjoint"}
    if not isinstance(values, Mapping) or not known <= {*values} <= known | {*ADJOINTS}:
        expected = f"{', '.join(sorted(known))}, and options of adjoints"
        raise InputError("task.training", f"is {values!r}", expected)
    for name, check in NUMBERS.items():
        check(f"task.training.{name}", values[name])
    name = adjoint or values["adjoint"]
    one_of(*ADJOINTS)("task.training.adjoint", name)
    place = f"task.training.{name}"
    try:
        built = ADJOINTS[name](**values.get(name) or {})
    except InputError as error:
        raise error.renamed(f"{place}.{error.name}") from error
    except TypeError as error:
        got = f"is {values.get(name)!r}"
        raise InputError(place, got, f"options of {name} ({error})") from error
    return Training(**{name: values[name] for name in NUMBERS}, adjoint=built)


def labeled_rows(
    settings: RunSettings, least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Loads the first slice of the data, of so many rows at least, and their labels."""
    dataset = sources.take(settings.data)
    if dataset.labels is None:
        remedy = "Take data=digits_parameters."
        raise InputError("data.source", "has no labels", "labeled rows", remedy)
    if (count := len(dataset.slices[0])) < least:
        expected = f"at least {least}, by which maps are judged"
        raise InputError("data.source", f"has {count} rows", expected)
    return dataset.slices[0], dataset.labels[0]


def square_images(settings: RunSettings) -> tuple[np.ndarray, np.ndarray]:
    """Loads the first slice of the data, of square images, and its rows' labels."""
    images, labels = labeled_rows(settings, JUDGED)
    if isqrt(images.shape[1]) ** 2 != images.shape[1]:
        got = f"has rows of {images.shape[1]} columns"
        raise InputError("data.source", got, "square images")
    return images, labels


def fitted_maps(
    slices: Sequence[Any], relations: Links, settings: RunSettings
) -> list[np.ndarray]:
    """Returns the maps of slices, laid out as the run's settings ask."""
    rows = [np.asarray(rows) for rows in slices]
    key = jax.random.key(settings.seed)
    return aljax.fit(rows, relations, key=key, **settings.configs).slices()


def write_results(
    settings: RunSettings,
    record: dict[str, Any],
    figure: Figure,
    interrupts: Interrupts,
    **weights: np.ndarray,
) -> Path:
    """Writes a task's figures, picture, settings and, if any, trained weights."""
    shown = {name: value for name, value in record.items() if name != "losses"}
    print(json.dumps(shown, indent=2))
    name = settings.task["name"]
    with folder_beside(settings.results) as folder:
        figure.savefig(folder / f"{name}.png", dpi=130)
        write_json(folder / f"{name}.json", record)
        if weights:
            np.savez(folder / "weights.npz", allow_pickle=False, **weights)
        settings.save(folder)
        interrupts.check()
        written = publish(folder, settings.name)
    print(f"results in {written}")
    return written


class Outer(eqx.Module):
    """A loss of the maps `(points, components)` in the order of the rows."""

    loss: Callable[[Rows, Any], Float[Array, ""]] = eqx.field(static=True)
    batch: Any
    places: list[Int[Array, "_"]]

    def __call__(self, maps: Float[Array, "slices components points"]) -> Array:
        """Returns the loss of stacked maps."""
        pairs = zip(maps, self.places, strict=True)
        return self.loss([stacked[:, place].T for stacked, place in pairs], self.batch)


class Encoding(NamedTuple):
    """Searches neighbors, mates and a start for rows as they are encoded now.

    Attributes:
        data: The slices' rows.
        loss: Of the maps and of what a batch holds besides its links.
        batches: For the number of a step, the links that the layout knows of, and
            what the loss is given.
        training: How to lay out.
        key: Of the layouts.
    """

    data: Rows
    loss: Callable[[Rows, Any], Float[Array, ""]]
    batches: Callable[[int], tuple[Links, Any]]
    training: Training
    key: Array

    def __call__(self, encoder: Any, count: int, maps: Array | None) -> Derivative:
        """Returns the derivative by an encoder, whose graphs and mates are held.

        Args:
            encoder: Encodes rows; a list has one for each slice.
            count: The number of the step.
            maps: The last maps, which are not used.
        """
        del maps
        encoders = encoder if isinstance(encoder, list) else [encoder] * len(self.data)
        encoded = _encoded(encoders, self.data)
        width = min(NEIGHBORS, *map(len, encoded))
        knn = [exact_knn(np.asarray(rows), width) for rows in encoded]
        links, batch = self.batches(count)
        key = jax.random.fold_in(self.key, count)
        layout = LayoutConfig(learning_rate=self.training.map_rate)
        prepared = aljax.prepare(knn, links, key=key, layout=layout)
        places = [
            jnp.argsort(order)[: len(rows)]
            for order, rows in zip(prepared.problem.order, encoded, strict=True)
        ]
        through = Encoded(self.data, [listed.indices for listed in knn])
        pieces = through(prepared.problem, prepared.params, encoder)
        adjoint, start = anchored(self.training, pieces, prepared.state.maps, key)
        return partial(
            aljax.hypergradient,
            Outer(self.loss, batch, places),
            prepared.problem,
            prepared.params,
            start=start,
            through=through,
            adjoint=adjoint,
        )


def _encoded(encoders: Sequence[Any], data: Rows) -> Rows:
    return [encode(x) for encode, x in zip(encoders, data, strict=True)]


def anchored(training: Training, pieces: Any, start: Array, key: Array) -> Any:
    """Returns an adjoint that is ready to use, and the maps to start from."""
    adjoint: Any = training.adjoint
    if isinstance(adjoint, Unrolled):
        return eqx.tree_at(lambda a: a.key, adjoint, key), start
    adjoint, start = adjoint.at(*pieces, start)
    return dataclasses.replace(adjoint, settle=0), start


def train(
    module: Any,
    hold: Callable[[Any, int, Array | None], Derivative],
    *,
    training: Training,
    penalty: Callable[[Any], Float[Array, ""]] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Returns what is trained, and the losses and seconds of the training.

    Args:
        module: A tree of arrays, such as an Equinox module.
        hold: For `module`, the number of a step and the last maps (None at first), the
            derivative that is taken until the next search.
        training: How long and how fast.
        penalty: Of `module`, added to the loss.
    """
    # A gradient through a layout has a heavy tail: its direction is what counts.
    rate = optax.cosine_decay_schedule(training.rate, training.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    state = optimizer.init(eqx.filter(module, eqx.is_inexact_array))
    losses, saddles, clock, maps = [], 0, [time.perf_counter()], None
    differentiate = hold(module, 0, maps)
    for count in range(training.steps):
        if count and count % training.refresh == 0:
            differentiate = hold(module, count, maps)
        derivative = differentiate(of=module)
        losses.append(float(derivative.value))
        gradient, maps = derivative.gradient, derivative.solution.maps
        if penalty is not None:
            gradient = eqx.apply_updates(gradient, eqx.filter_grad(penalty)(module))
        saddle = float(derivative.curvature) <= 0  # its derivative says nothing
        saddles += saddle
        if not saddle:
            updates, state = optimizer.update(gradient, state)
            module = eqx.apply_updates(module, updates)
        clock.append(time.perf_counter())
        if count % 10 == 0:
            elapsed = clock[-1] - clock[0]
            print(f"  step {count}: loss {losses[-1]:.4f}, {elapsed:.0f} s", flush=True)
    step_seconds = float(np.median(np.diff(clock)))  # without compilation
    seconds = {"seconds": clock[-1] - clock[0], "seconds_a_step": step_seconds}
    return module, seconds | {"saddles": saddles, "losses": losses}


def same(rows: Int[np.ndarray, " rows"]) -> dict[int, int]:
    """Returns the relation of two slices in which these rows are the same members."""
    return dict(zip(rows.tolist(), rows.tolist(), strict=True))


def apart(maps: Rows, rows: Int[Array, " rows"]) -> Float[Array, ""]:
    """Returns mates' mean squared distance by the maps' mean squared radius.

    Mates are the same rows of consecutive maps.
    """
    squared = [jnp.sum((y[rows] - z[rows]) ** 2, axis=1) for y, z in pairwise(maps)]
    radii = [jnp.mean(jnp.sum((y - y.mean(axis=0)) ** 2, axis=1)) for y in maps]
    return jnp.mean(jnp.stack(squared)) / jnp.mean(jnp.stack(radii))


class Matching(NamedTuple):
    """Batches of rows that are the same members in all slices.

    Half of those that are known link the slices, and the others judge the maps; which
    half it is, is drawn anew for each search.
    """

    known: Int[np.ndarray, " known"]
    hidden: Int[np.ndarray, " hidden"]
    seed: int
    slices: int = 2

    @classmethod
    def split(cls, rows: int, seed: int, slices: int = 2) -> "Matching":
        """Returns one that knows half of the rows."""
        order = np.random.default_rng(seed).permutation(rows)
        known, hidden = np.split(order, [rows // 2])
        return cls(known, hidden, seed, slices)

    def __call__(self, search: int) -> tuple[list[dict[int, int]], Array]:
        """Returns the links of the slices, and the rows that judge the maps."""
        shuffled = np.random.default_rng([self.seed, search]).permutation(self.known)
        linked, judged = np.split(shuffled, [len(shuffled) // 2])
        return [same(linked)] * (self.slices - 1), jnp.asarray(judged)

    def judged(
        self, encoders: Mapping[str, Sequence[Any]], data: Rows, settings: RunSettings
    ) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
        """Returns maps of the slices, and the displacement of hidden mates in them.

        Args:
            encoders: By name, one for each slice.
            data: The slices' rows.
            settings: Those of the maps, in which all known rows are linked.
        """
        links = [same(self.known)] * (self.slices - 1)
        mates = Mates(self.hidden, self.hidden, np.ones(len(self.hidden)))
        relations = {(t, 1): mates for t in range(self.slices - 1)}
        maps = {
            name: fitted_maps(_encoded(of_slices, data), links, settings)
            for name, of_slices in encoders.items()
        }
        return maps, {name: displacement(y, relations) for name, y in maps.items()}
