"""The maps, rows and members that a picture draws, read from whichever form came."""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from aljax.columns import RowValues
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError, in_words, instance, kind_of
from aljax.metrics import Moves
from aljax.plot.style import plain, plane
from aljax.relations.mates import Members, members_by_id, members_by_relations
from aljax.repeats import of_first_rows

Map = Float[np.ndarray, "_ components"]


def read_maps(model: Any) -> list[Map]:
    """Reads the maps of a fitted estimator, `AlignedEmbedding`, array or list."""
    if isinstance(_fitted(model), AlignedEmbedding) and not hasattr(model, "maps_"):
        return model.slices()
    for name in ("embeddings_", "embedding_"):  # as umap-learn's have them
        model = getattr(model, name, model)
    if not isinstance(model, list | tuple):
        array = np.asarray(model)
        model = list(array) if array.ndim == 3 else [array]
    expected = "a fitted model, or at least one map (points, components)"
    if not model:
        raise InputError("model", "is an empty list", expected)
    maps = [np.asarray(y) for y in model]
    rows = any(y.size for y in maps)
    for t, y in enumerate(maps):
        if y.ndim != 2 or y.dtype.kind not in "fiu" or not (rows and y.shape[1]):
            got = f"has a map of shape {y.shape} and dtype {y.dtype} as slice {t}"
            raise InputError("model", got, expected)
        odd = np.flatnonzero(~np.isfinite(y).all(axis=1))
        if odd.size:
            got = f"has {y[odd[0]].tolist()} in row {odd[0]} of slice {t}"
            raise InputError("model", got, "finite positions", "Leave the row out.")
    return maps


def several_maps(model: Any) -> list[Map]:
    """Reads the maps of a sequence, as `read_maps` does; refuses a single map."""
    maps = read_maps(model)
    if len(maps) < 2:
        raise InputError("model", "has one slice", "at least two to move between")
    return maps


def _fitted(model: Any) -> Any:
    """Returns what holds the maps: a fitted estimator keeps it in `maps_`."""
    read = any(hasattr(model, name) for name in ("embedding_", "embeddings_"))
    if hasattr(model, "get_params") and not read:
        why, remedy = "is not fitted", "Call `fit` first."
        if hasattr(model, "maps_"):
            why, remedy = "has a graph alone", 'Fit with `transform_mode="embedding"`.'
        got = f"is {kind_of(model)} that {why}"
        raise InputError("model", got, "one that has maps", remedy)
    return getattr(model, "maps_", model)


def read_map(
    model: Any,
    slice: Any,  # noqa: A002
    title: str | None = None,
) -> tuple[Map, str]:
    """Reads a slice's map in the plane, and its title: passed, or its plain label."""
    t, labels = read_slice("slice", slice, model), _labels(model)
    if title is None:
        title = plain(in_words(labels[t])) if labels else ""
    return plane(read_maps(model)[t]), title


def _labels(model: Any) -> Sequence[Any] | None:
    return getattr(_fitted(model), "slice_labels", None)


def read_slice(name: str, t: Any, model: Any) -> int:
    """Reads a slice's number, counted from the end where negative, or its label."""
    count = len(read_maps(model))
    if _labels(model) is not None:
        try:
            return _fitted(model).index(t)
        except InputError as error:
            raise error.renamed(name) from None
    whole = isinstance(t, numbers.Integral) and not isinstance(t, bool)
    if not whole or not -count <= int(t) < count:
        expected = f"a slice of `model`, {-count} to {count - 1}"
        raise InputError(name, f"is {t!r}", expected)
    return int(t) % count


def read_titles(titles: Sequence[str] | None, model: Any, count: int) -> list[str]:
    """Reads a title for each slice: given, its own label, or its number."""
    labels = _labels(model) or range(count)
    read = [*map(in_words, labels if titles is None else titles)]
    if len(read) != count:
        expected = f"one for each of {count} slices"
        raise InputError("titles", f"has {len(read)}", expected)
    return read


def read_moves(moves: Any, sizes: Sequence[int]) -> list[np.ndarray] | None:
    """Reads for each slice which rows are of members that moved; None for no moves."""
    if moves is None:
        return None
    instance("moves", moves, Moves, "the result of `aljax.metrics.moved`")
    called = moves.rows()
    if [*map(len, called)] != [*sizes]:
        got = f"is of slices with {[*map(len, called)]} rows"
        raise InputError("moves", got, f"moves of these maps, of {[*sizes]} rows")
    return called


def read_members(model: Any, ids: RowValues | None) -> Members:
    """Returns the members of a sequence: rows of one id, or of the model's relations.

    Without ids, the model's own decide, or its mates, each named by the slice and row
    in which it is first met.
    """
    maps, fitted = read_maps(model), _fitted(model)
    sizes = [len(y) for y in maps]
    ids = getattr(fitted, "ids", None) if ids is None else ids
    if ids is not None:
        return members_by_id(ids, sizes)
    if len(maps) == 1:
        return Members([np.arange(sizes[0])], [str(row) for row in range(sizes[0])])
    if not isinstance(fitted, AlignedEmbedding):
        raise InputError(
            "ids",
            "is None, and plain maps do not say which rows belong together",
            "a list with one array of ids for each slice, or the fitted model",
        )
    relations = fitted.relations
    if (row_kinds := getattr(model, "_unique_inverse_", None)) is not None:
        relations = of_first_rows(relations, row_kinds)
    return members_by_relations(relations, sizes)


class Tracks(NamedTuple):
    """The paths of members through a sequence of maps."""

    maps: Sequence[Map]
    members: Members

    def of(self, t: int) -> Float[np.ndarray, "members components"]:
        """Positions in a slice; NaN where absent, and before and after the sequence."""
        places = np.full((len(self.members.names), self.maps[0].shape[1]), np.nan)
        if 0 <= t < len(self.maps):
            places[self.members.codes[t]] = self.maps[t]
        return places

    def at(self, time: float) -> Float[np.ndarray, "members components"]:
        """Positions at a time from 0 to slices - 1; NaN in gaps."""
        t = min(int(time), len(self.maps) - 2)
        u = time - t
        if u in (0, 1):
            return self.of(t + int(u))
        start, end = self.of(t), self.of(t + 1)
        step = end - start
        before, after = start - self.of(t - 1), self.of(t + 2) - end
        leaving = np.where(np.isnan(before), step, (before + step) / 2)
        arriving = np.where(np.isnan(after), step, (step + after) / 2)
        return (
            (2 * u**3 - 3 * u**2 + 1) * start
            + (u**3 - 2 * u**2 + u) * leaving
            + (3 * u**2 - 2 * u**3) * end
            + (u**3 - u**2) * arriving
        )

    def fading(
        self, time: float
    ) -> tuple[Float[np.ndarray, "members components"], Float[np.ndarray, "members"]]:
        """Returns positions and opacities; members fade where they leave or come."""
        t = min(int(time), len(self.maps) - 2)
        starts, ends, where = self.of(t), self.of(t + 1), self.at(time)
        share = time - t
        opacity = np.isfinite(starts[:, 0]) * (1.0 - share)
        opacity += np.isfinite(ends[:, 0]) * share
        for stay in (starts, ends):  # of members that are in one of the two
            where = np.where(np.isnan(where), stay, where)
        return where, opacity
