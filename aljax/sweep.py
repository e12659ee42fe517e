"""Sweeps: many settings of one problem as one compiled program."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from aljax.config import CONFIGS, AlignmentConfig, GraphConfig, LayoutConfig, number
from aljax.errors import InputError, instance, nearest_name
from aljax.fit import Prepared, prepare
from aljax.graph.conditioning import by_distance
from aljax.graph.knn import on_device
from aljax.graph.slices import dense_only
from aljax.keys import check_key
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import (
    LayoutState,
    bytes_of_row,
    check_finite,
    run_together,
    shifts_of,
)
from aljax.layout.problem import LayoutParams, layout_params
from aljax.layout.spaces import space_of
from aljax.metrics import displacement, trustworthiness
from aljax.relations.mates import Relations
from aljax.running import optimize

__all__ = ["Row", "Sweep", "SweepProblem", "sweep"]
SHAPES = (
    *("n_neighbors", "alignment_window_size", "frame"),
    *("n_components", "n_epochs", "n_shifts", "densmap"),
)
OF_MATES = ("alignment_strengths", "alignment_decay")  # part of the problem itself
CURVE = ("min_dist", "spread", "a", "b")  # sets the scale that given maps come to
MEMORY = 2 * 2**30  # bytes, where none is given
ROWS_AT_ONCE = {"cpu": 1}  # by measurement; elsewhere as many as fit
Group = list[tuple[int, Any]]  # numbers of rows, and what tells their starts apart
TRUST_NEIGHBORS = 15
Maps = list[Float[np.ndarray, "_ components"]]
Measure = Callable[[Maps, Prepared], Mapping[str, float]]


class Row(NamedTuple):
    """One finished setting: its maps, the loss terms as last recorded, its metrics."""

    maps: Maps
    loss: LossTerms
    metrics: Mapping[str, float]


class Sweep(NamedTuple):
    """The rows of a sweep, stacked; row r has the settings `settings[r]`.

    Attributes:
        settings: What was asked for.
        maps: For each slice the maps of all rows, in the order of its own points;
            components that a row does not have are 0.
        loss: The terms as last recorded, `(rows, slices)`.
        metrics: One value for each row, by name; NaN where a row has none.
    """

    settings: list[dict[str, Any]]
    maps: list[Float[np.ndarray, "rows _ components"]]
    loss: LossTerms
    metrics: dict[str, Float[np.ndarray, "rows"]]

    def table(self) -> list[dict[str, Any]]:
        """Returns for each row its settings, its metrics and its terms of the loss."""
        loss = {term: terms.sum(axis=1) for term, terms in vars(self.loss).items()}
        columns = {**self.metrics, **loss}
        return [
            setting | {name: float(values[row]) for name, values in columns.items()}
            for row, setting in enumerate(self.settings)
        ]


class SweepProblem(NamedTuple):
    """The arguments of `fit` that the settings of a sweep start from.

    Attributes:
        slices: Data, neighbors or graphs.
        relations: Which rows are mates.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        visible: A filter of the mates, before the start is made; None keeps all.
        start: For each slice the map to start from, as `fit` takes them.
        scale: What brings columns to common units, as in `fit`.
        scale_by: The rows that units are of.
        missing: What gaps are.
    """

    slices: Sequence[Any]
    relations: Any = None
    graph: GraphConfig = GraphConfig()
    layout: LayoutConfig = LayoutConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    visible: Callable[[Relations], Relations] | None = None
    start: Sequence[Any] | None = None
    scale: Any = None
    scale_by: str = "all"
    missing: str = "error"

    def replaced(self, setting: Mapping[str, Any]) -> "SweepProblem":
        """Returns the problem with some of its settings replaced, by name.

        Raises:
            InputError: If a value is out of range.
        """
        sections = {}
        for section, config in CONFIGS.items():
            names = {field.name for field in fields(config)}
            changed = {name: setting[name] for name in names & {*setting}}
            sections[section] = replace(getattr(self, section), **changed)
        return self._replace(**sections)

    def prepared(self, key: jax.Array) -> Prepared:
        """Everything up to the first epoch."""
        return prepare(key=key, **self._asdict())

    def begun(self, shared: Prepared) -> Prepared:
        """Returns what rows with the same start share, with this one's settings."""
        layout = replace(self.layout, init=shared.layout.init)
        kept = {"layout": layout, "alignment": self.alignment, "params": self.params()}
        return replace(shared, **kept)

    def params(self) -> LayoutParams:
        """Returns the settings that change no shape."""
        return layout_params(self.layout, self.alignment, slices=len(self.slices))


def check_problem(problem: Any) -> None:
    """Checks that a problem is one, and not its slices alone."""
    expected = "a SweepProblem, as in SweepProblem(slices, relations)"
    instance("problem", problem, SweepProblem, expected)
    instance("problem.slices", problem.slices, Sized, "a list of arrays")


def check_settings(settings: Sequence[Mapping[str, Any]]) -> None:
    """Checks that a sweep has rows, each a dict with names of settings."""
    example = '{"alignment_regularisation": 0.1}'
    if not isinstance(settings, Sequence) or not len(settings):
        raise InputError("settings", f"is {settings!r}", f"a list such as [{example}]")
    names = [field.name for config in CONFIGS.values() for field in fields(config)]
    for row, setting in enumerate(settings):
        place = f"settings[{row}]"
        if not isinstance(setting, Mapping):
            raise InputError(place, f"is {setting!r}", f"a dict, as in {example}")
        for name in set(setting) - {*names}:
            hint = nearest_name(str(name), names)
            raise InputError(place, f"has `{name}`", "names of settings", hint)


Progress = Callable[[int, Row], None]


def sweep(
    problem: SweepProblem,
    settings: Sequence[Mapping[str, Any]],
    *,
    keys: jax.Array | Sequence[jax.Array],
    memory: int | None = None,
    chunk: int | None = None,
    measure: Measure | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Lays one problem out under many settings, by one program for each shape.

    Each row is what `fit` gives with its settings and its key: the same bits where
    one row runs at a time, else up to rounding, which a whole run amplifies (and the
    pairs that repel, where `fit` cuts slices of very different sizes into rows).

    Args:
        problem: The data, and the settings that the rows start from.
        settings: For each row the settings it replaces, by name, per slice where they
            may be so.
        keys: One for all rows, or one for each.
        memory: Bytes that the rows of a chunk may take together, by the estimate of
            `bytes_of_row`; None for 2 GiB.
        chunk: Rows that run at once (at least 1); None for what was measured to be
            fastest: one on CPUs, elsewhere as many as the memory holds.
        measure: Returns the metrics of a row, by name, from its maps and what it began
            with, a `Prepared` of its settings; None for the trustworthiness (15
            neighbors) and the displacement of mates.
        progress: Called with each row's number as soon as it is finished.

    Raises:
        InputError: If an argument is of another kind, a setting is unknown or does not
            fit, keys are not as many as rows, or the memory does not hold one row.
    """
    check_problem(problem)
    check_settings(settings)
    rows = [problem.replaced(setting) for setting in settings]
    for row in rows:
        row.params()  # refuses what does not fit before the first row is laid out
    if measure is not None:
        instance("measure", measure, Callable, "a function of maps, or None")
    row_keys = _read_keys(keys, len(rows))
    number(1, whole=True, optional=True)("chunk", chunk)
    number(1, whole=True, optional=True)("memory", memory)
    finished: dict[int, Row] = {}
    for group in _groups(rows, row_keys):
        laid_out = _lay_out_group(group, rows, row_keys, chunk=chunk, memory=memory)
        for row, begun, state in laid_out:
            finished[row] = finished_row(begun, state, measure or measure_row)
            if progress:
                progress(row, finished[row])
    return stack_rows(settings, [finished[row] for row in range(len(rows))])


def _read_keys(keys: Any, rows: int) -> list[jax.Array]:
    """Returns one key for each row."""
    if isinstance(keys, jax.Array):
        typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
        keys = [keys] * rows if keys.ndim == (0 if typed else 1) else [*keys]
    if not isinstance(keys, Sequence) or len(keys) != rows:
        counted = isinstance(keys, Sequence)
        got = f"has {len(keys)} keys for {rows} rows" if counted else f"is {keys!r}"
        raise InputError("keys", got, "one key for all rows, or one for each")
    for key in keys:
        check_key(key)
    return list(keys)


def _groups(rows: Sequence[SweepProblem], keys: Sequence[jax.Array]) -> list[Group]:
    """Rows whose arrays have the same shapes, those with the same start together."""
    groups: dict[Any, dict[Any, list[int]]] = {}
    for place, (row, key) in enumerate(zip(rows, keys, strict=True)):
        settings = {**vars(row.graph), **vars(row.layout), **vars(row.alignment)}
        moving = settings["motion_fidelity"] > 0  # then the problem has more arrays
        shape = (moving, space_of(row.layout), *(settings[name] for name in SHAPES))
        scaled = row.start is not None or not isinstance(row.layout.init, str)
        start = (
            row.graph,
            LayoutConfig(init=settings["init"]),  # arrays cannot be hashed
            *(settings[name] for name in OF_MATES + CURVE * scaled),
            np.asarray(jax.random.key_data(key)).tobytes(),
        )
        groups.setdefault(shape, {}).setdefault(start, []).append(place)
    return [
        [(place, start) for start, places in group.items() for place in places]
        for group in groups.values()
    ]


def _lay_out_group(
    group: Group,
    rows: Sequence[SweepProblem],
    keys: Sequence[jax.Array],
    *,
    chunk: int | None,
    memory: int | None,
) -> Iterator[tuple[int, Prepared, LayoutState]]:
    """Yields each row's number, what it starts from and how it ends, by chunks."""
    place, start = group[0]
    begun = {start: rows[place].prepared(keys[place])}
    problem = begun[start].problem
    n_shifts = shifts_of(problem, rows[place].layout.n_shifts)
    components = begun[start].state.maps.shape[1]
    row_bytes = bytes_of_row(problem, components=components, n_shifts=n_shifts)
    size = _chunk_size(row_bytes, len(group), chunk, memory)
    for first in range(0, len(group), size):
        group_chunk = group[first : first + size]
        begun = {  # those of the chunk before are kept as long as they are shared
            start: begun.get(start) or rows[place].prepared(keys[place])
            for place, start in group_chunk
        }
        members = [place for place, _ in group_chunk]
        starts = [rows[place].begun(begun[start]) for place, start in group_chunk]
        problems = [prepared.problem for prepared in starts]
        params = [prepared.params for prepared in starts]
        states = [prepared.state for prepared in starts]
        of_rows = [keys[place] for place in members]
        if size == 1:
            state = jax.device_put(states[0], may_alias=False)  # others start there too
            arguments = problems[0], params[0], state, n_shifts
            states = [optimize(*arguments, key=of_rows[0])]
        else:
            options = {"keys": of_rows, "n_shifts": n_shifts, "size": size}
            states = run_together(problems, params, states, **options)
        yield from zip(members, starts, states, strict=True)


def _chunk_size(
    row_bytes: int, rows: int, chunk: int | None, memory: int | None
) -> int:
    fitting = (MEMORY if memory is None else memory) // row_bytes
    if fitting < 1 and memory is not None:
        raise InputError(
            "memory",
            f"is {memory} bytes, but one row takes about {row_bytes}",
            "at least that",
            "Or lower `n_neighbors`, `n_shifts` or `alignment_window_size`.",
        )
    wished = chunk or ROWS_AT_ONCE.get(jax.default_backend(), rows)
    return max(1, min(wished, fitting, rows))


def measure_row(maps: Maps, begun: Prepared) -> dict[str, float]:
    """Returns the metrics of a row unless asked otherwise, as means over slices.

    Trustworthiness (15 neighbors, 1 is best) where slices have data and more than 30
    rows, by angles if the metric is cosine or correlation and else by Euclidean
    distances, and the displacement of mates in radii of the maps where there are any.
    """
    metric = begun.graph.metric
    pairs = zip(dense_only(begun.data), maps, strict=True)
    trust = [
        trustworthiness(
            by_distance(data, metric), positions, n_neighbors=TRUST_NEIGHBORS
        )
        for data, positions in pairs
        if data is not None and len(data) > 2 * TRUST_NEIGHBORS
    ]
    measured = {"trustworthiness": float(np.mean(trust))} if trust else {}
    if begun.relations:
        measured["displacement"] = displacement(maps, begun.relations)
    return measured


def finished_row(begun: Prepared, state: LayoutState, measure: Measure) -> Row:
    """Returns the maps of one setting, which are finite, last loss and metrics."""
    check_finite(state.maps)
    maps = begun.maps_of(state)
    loss = jax.tree.map(lambda term: np.asarray(term)[-1:].sum(axis=0), state.losses())
    return Row(maps, loss, measure(maps, begun))


def stack_rows(settings: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> Sweep:
    """Joins the rows to one table, maps as arrays with the rows along axis 0."""
    widest = max(row.maps[0].shape[1] for row in rows)
    maps = [
        np.stack([np.pad(y, ((0, 0), (0, widest - y.shape[1]))) for y in of_slice])
        for of_slice in zip(*(row.maps for row in rows), strict=True)
    ]
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    measured = [[row.metrics.get(name, np.nan) for row in rows] for name in names]
    return Sweep(
        [dict(setting) for setting in settings],
        maps,
        _stack_terms([row.loss for row in rows]),
        dict(zip(names, map(np.array, measured), strict=True)),
    )


def _stack_terms(losses: Sequence[LossTerms]) -> LossTerms:
    """Returns the terms of all rows; of rows without a density it is 0."""
    cls: Any = type(max(losses, key=lambda loss: len(vars(loss))))
    none = np.zeros_like(losses[0].attraction)
    terms = [[vars(loss).get(f.name, none) for loss in losses] for f in fields(cls)]
    return cls(*(on_device(np.stack(term)) for term in terms))


def __dir__() -> list[str]:
    return [*__all__]
