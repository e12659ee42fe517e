"""Training through a layout: encoded rows -> graph -> layout -> a measure of the maps.

Which rows are neighbors, which mates there are and where the layout starts are found
anew every few steps, on the host; between, the derivative goes through everything
else.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
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
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig, number
from aljax.errors import InputError
from aljax.fit import prepare
from aljax.layout import Unrolled, graph_of, reweigh, solve_layout
from aljax.layout.problem import AlignedProblem, LayoutParams
from experiments.data import sources
from experiments.interrupts import Interrupts
from experiments.results.folder import folder_beside, publish
from experiments.results.records import write_json
from experiments.settings import RunSettings

Encoder = Callable[..., Any]  # an Equinox module
Rows = list[Float[Array, "_ features"]]


class Training(NamedTuple):
    """Settings of a training: steps, rate, and epochs to differentiate.

    Attributes:
        steps: Of the optimizer of the module.
        rate: Its first learning rate, which falls to 0 along a cosine.
        refresh: Steps between two searches for neighbors.
        epochs: Of each layout.
        last: Of them differentiated.
        map_rate: The learning rate of the layouts.
    """

    steps: int
    rate: float
    refresh: int
    epochs: int
    last: int
    map_rate: float


def read_training(values: Any) -> Training:
    """Returns the checked settings of a training, as `task.training` has them.

    Raises:
        InputError: A name is missing or unknown, or a value is out of range.
    """
    if not isinstance(values, Mapping) or {*values} != {*Training._fields}:
        expected = ", ".join(Training._fields)
        raise InputError("task.training", f"is {values!r}", expected)
    for name, kind in Training.__annotations__.items():
        check = number(1, whole=True) if kind is int else number(0, open_low=True)
        check(f"task.training.{name}", values[name])
    return Training(**values)


def labeled_images(settings: RunSettings) -> tuple[np.ndarray, np.ndarray]:
    """Loads the first slice of the data, and its rows' labels."""
    dataset = sources.take(settings.data)
    assert dataset.labels is not None
    return np.asarray(dataset.slices[0]), np.asarray(dataset.labels[0])


def fitted_maps(
    slices: Sequence[Any], relations: Any, settings: RunSettings
) -> list[np.ndarray]:
    """Returns the maps of slices, laid out as the run's settings ask."""
    return aljax.fit(
        [np.asarray(rows) for rows in slices],
        relations,
        key=jax.random.key(settings.seed),
        **settings.configs,
    ).slices()


def write_results(
    settings: RunSettings,
    record: dict[str, Any],
    losses: Sequence[float],
    figure: Figure,
    interrupts: Interrupts,
    **weights: np.ndarray,
) -> Path:
    """Writes a task's figures, picture, settings and, if any, trained weights."""
    print(json.dumps(record, indent=2))
    name = settings.task["name"]
    with folder_beside(settings.results) as folder:
        figure.savefig(folder / f"{name}.png", dpi=130)
        write_json(folder / f"{name}.json", record | {"losses": losses})
        if weights:
            np.savez(folder / "weights.npz", allow_pickle=False, **weights)
        settings.save(folder)
        interrupts.check()
        written = publish(folder, settings.name)
    print(f"results in {written}")
    return written


class Held(NamedTuple):
    """Everything that the host finds and that is held while gradients are taken."""

    neighbors: list[Int[Array, "neighbors _"]]
    problem: AlignedProblem
    params: LayoutParams
    start: Float[Array, "slices components points"]


def hold(
    rows: Rows,
    relations: Sequence[dict[int, int]] | None,
    *,
    key: jax.Array,
    training: Training,
) -> Held:
    """Finds neighbors, mates and a start for the rows as they are encoded now."""
    from aljax.graph.exact import exact_knn

    n_neighbors = GraphConfig().n_neighbors
    assert isinstance(n_neighbors, int)
    knn = [exact_knn(np.asarray(encoded), n_neighbors) for encoded in rows]
    begun = prepare(
        knn,
        relations,
        key=key,
        layout=LayoutConfig(learning_rate=training.map_rate),
        alignment=AlignmentConfig(),
    )
    neighbors = [listed.indices for listed in knn]
    return Held(neighbors, begun.problem, begun.params, begun.state.maps)


def lay_out(rows: Rows, held: Held, training: Training, key: jax.Array) -> Rows:
    """Returns each slice's map `(points, components)`, differentiable in the rows."""
    graphs = [graph_of(x, near) for x, near in zip(rows, held.neighbors, strict=True)]
    solution = solve_layout(
        reweigh(held.problem, graphs),
        held.params,
        held.start,
        adjoint=Unrolled(key, n_epochs=training.epochs, last=training.last),
    )
    maps = []
    for t, encoded in enumerate(rows):
        size = encoded.shape[0]
        place = held.problem.order[t, :size]
        blank = jnp.zeros((size, solution.maps.shape[1]), solution.maps.dtype)
        maps.append(blank.at[place].set(solution.maps[t, :, :size].T))
    return maps


def train(
    module: Any,
    encode: Callable[[Any], Rows],
    loss: Callable[[Rows, Any], Float[Array, ""]],
    batches: Callable[[int], tuple[Sequence[dict[int, int]] | None, Any]],
    *,
    training: Training,
    key: jax.Array,
) -> tuple[Any, list[float]]:
    """Returns the module after training, and the loss at every step.

    Args:
        module: An Equinox module.
        encode: The slices' rows by the module.
        loss: Of the maps and of what a batch holds besides its relations.
        batches: For the number of a search, the relations that the layouts know of,
            and what the loss is given.
        training: How long and how fast.
        key: Of the layouts.
    """
    # A gradient through many epochs has a heavy tail: its direction is what counts.
    rate = optax.cosine_decay_schedule(training.rate, training.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    state = optimizer.init(eqx.filter(module, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(module: Any, state: Any, held: Held, batch: Any, key: Array) -> Any:
        def value(module: Any) -> Float[Array, ""]:
            return loss(lay_out(encode(module), held, training, key), batch)

        current, gradient = eqx.filter_value_and_grad(value)(module)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(module, updates), state, current

    losses: list[float] = []
    held: Held | None = None
    batch, began = None, time.perf_counter()
    for count in range(training.steps):
        step_key = jax.random.fold_in(key, count)
        if held is None or count % training.refresh == 0:
            relations, batch = batches(count // training.refresh)
            held = hold(encode(module), relations, key=step_key, training=training)
        module, state, current = step(module, state, held, batch, step_key)
        losses.append(float(current))
        if count % 10 == 0:
            seconds = time.perf_counter() - began
            print(f"  step {count}: loss {losses[-1]:.4f}, {seconds:.0f} s", flush=True)
    return module, losses
