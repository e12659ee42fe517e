"""Sweeps: many settings of one problem as one compiled program.

    settings -> groups of one shape -> chunks within the memory -> vmap(run)

Settings that change no shape are array leaves, so one program, mapped over rows,
lays all of them out; those that do (`SHAPES`) make one group, and one program, for
each of their values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aljax.align import shifts_of
from aljax.checks import instance, number
from aljax.layout.optimize import LayoutState
from aljax.layout.rows import bytes_of_row, run_together
from aljax.stages import Prepared, check_key
from aljax.sweep.problem import SweepProblem, check_problem, check_settings
from aljax.sweep.table import Measure, Row, Sweep, finished_row, measure_row, stack_rows

SHAPES = (
    "n_neighbors",
    "alignment_window_size",
    "n_components",
    "n_epochs",
    "n_shifts",
)
OF_MATES = ("alignment_strengths", "alignment_decay")  # part of the problem itself
MEMORY = 2 * 2**30  # bytes, where none is given
ROWS_AT_ONCE = {"cpu": 1}  # by measurement; elsewhere as many as fit


Progress = Callable[[int, Row], None]
Group = list[tuple[int, Any]]  # numbers of rows, and what tells their starts apart


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
    """Lay one problem out under many settings, by one program for each shape.

    Each row is what `fit` gives with its settings and its key: the same bits where
    one row runs at a time, else up to rounding, which a whole run amplifies.

    Args:
        problem: The data, and the settings that the rows start from.
        settings: For each row the settings it replaces, by name, per slice where they
            may be so.
        keys: One for all rows, or one for each.
        memory: Bytes that the rows of a chunk may take together, by the estimate of
            `bytes_of_row`; None for 2 GiB.
        chunk: Rows that run at once (at least 1); None for what was measured to be
            fastest: one on CPUs, elsewhere as many as the memory holds.
        measure: The metrics of a row; None for `measure_row`.
        progress: Called with each row's number as soon as it is finished.

    Raises:
        ValueError: What is no problem, no settings, an unknown name, a value that does
            not fit, the wrong number of keys, or memory too small for a single row.
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
        for members, begun, states in _lay_out_group(
            group, rows, row_keys, chunk=chunk, memory=memory
        ):
            for row, one, state in zip(members, begun, states, strict=True):
                finished[row] = finished_row(one, state, measure or measure_row)
                if progress:
                    progress(row, finished[row])
    return stack_rows(settings, [finished[row] for row in range(len(rows))])


def _read_keys(keys: Any, rows: int) -> list[jax.Array]:
    """One key for each row."""
    if isinstance(keys, jax.Array):
        typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
        keys = [keys] * rows if keys.ndim == (0 if typed else 1) else [*keys]
    if not isinstance(keys, Sequence):
        raise ValueError(
            f"`keys` is {keys!r}; expected keys of JAX, such as jax.random.key(0): one "
            "for all rows, or one for each."
        )
    if len(keys) != rows:
        raise ValueError(
            f"`keys` has {len(keys)} keys for {rows} rows; expected one for each row, "
            "or a single one for all."
        )
    for key in keys:
        check_key(key)
    return list(keys)


def _groups(rows: Sequence[SweepProblem], keys: Sequence[jax.Array]) -> list[Group]:
    """Rows whose arrays have the same shapes, those with the same start together."""
    groups: dict[Any, dict[Any, list[int]]] = {}
    for place, (row, key) in enumerate(zip(rows, keys, strict=True)):
        settings = {**vars(row.graph), **vars(row.layout), **vars(row.alignment)}
        moving = settings["motion_fidelity"] > 0  # then the problem has lengths, too
        shape = (moving, *(settings[name] for name in SHAPES))
        init = settings["init"]
        start = (
            *(_comparable(value) for value in vars(row.graph).values()),
            init if isinstance(init, str) else id(row),  # arrays
            *(settings[name] for name in OF_MATES),
            np.asarray(jax.random.key_data(key)).tobytes(),
        )
        groups.setdefault(shape, {}).setdefault(start, []).append(place)
    return [
        [(place, start) for start, places in group.items() for place in places]
        for group in groups.values()
    ]


def _comparable(value: Any) -> Any:
    """A setting as part of a dict's key; keywords, which may hold arrays, by place."""
    return id(value) if isinstance(value, Mapping) else value


def _lay_out_group(
    group: Group,
    rows: Sequence[SweepProblem],
    keys: Sequence[jax.Array],
    *,
    chunk: int | None,
    memory: int | None,
) -> Iterator[tuple[list[int], list[Prepared], list[LayoutState]]]:
    """Chunk by chunk the numbers of its rows, what they start from and how they end."""
    place, start = group[0]
    begun = {start: rows[place].prepared(keys[place])}
    problem = begun[start].problem
    n_shifts = shifts_of(problem, rows[place].layout)
    components = begun[start].state.maps.shape[1]
    needs = bytes_of_row(problem, components=components, n_shifts=n_shifts)
    size = _chunk_size(needs, len(group), chunk, memory)
    for first in range(0, len(group), size):
        part = group[first : first + size]
        begun = {  # those of the chunk before are kept as long as they are shared
            start: begun.get(start) or rows[place].prepared(keys[place])
            for place, start in part
        }
        members = [place for place, _ in part]
        ones = [begun[start] for _, start in part]
        states = run_together(
            [one.problem for one in ones],
            [rows[place].params() for place in members],
            [one.state for one in ones],
            keys=[keys[place] for place in members],
            n_shifts=n_shifts,
            size=size,
        )
        yield members, ones, states


def _chunk_size(needs: int, rows: int, chunk: int | None, memory: int | None) -> int:
    fitting = (MEMORY if memory is None else memory) // needs
    if fitting < 1 and memory is not None:
        raise ValueError(
            f"`memory` is {memory} bytes, but one row takes about {needs}; expected at "
            "least that. Give more, or lower `n_neighbors`, `n_shifts` or "
            "`alignment_window_size`."
        )
    wished = chunk or ROWS_AT_ONCE.get(jax.default_backend(), rows)
    return max(1, min(wished, fitting, rows))
