"""Columns in common units: gaps filled, centered and scaled, and kept with a model.

    x' = (x - center) / unit

This holds for any numbers in `Units`, such as the coordinates of a map, too.

Center and unit are scikit-learn's (`StandardScaler`: mean and deviation;
`RobustScaler`: median and quartiles), a gap is filled by the column's median
(`SimpleImputer`); of all rows together, or of each slice's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.checks import one_of
from aljax.columns import arrange
from aljax.errors import InputError, kind_of
from aljax.graph.knn import Rows
from aljax.graph.slices import Slice, read_slices

TRANSFORMERS = ("StandardScaler", "RobustScaler", "MinMaxScaler")
UNSCALED = (None, "none")
HOW = (*UNSCALED, "standard", "robust")
TAKEN = '"standard", "robust", a fitted StandardScaler, RobustScaler or MinMaxScaler'


class Units(eqx.Module):
    """A center and a unit for each column, in what the numbers came in.

    Attributes:
        center: What becomes 0.
        unit: The length that becomes 1 (above 0).
    """

    center: Float[np.ndarray, "columns"]
    unit: Float[np.ndarray, "columns"]

    def apply(self, rows: Any) -> Any:
        """Returns rows `(rows, columns)` in these units."""
        return (rows - self.center) / self.unit

    def undo(self, rows: Any) -> Any:
        """Returns rows that are in these units in their former ones."""
        return rows * self.unit + self.center


class Columns(Units):
    """The units of a slice's columns, and the values that fill their gaps.

    Attributes:
        fill: In the units of the user; None where gaps are errors.
    """

    fill: Float[np.ndarray, "columns"] | None = None

    def apply(self, rows: Any) -> Any:
        """Returns rows without gaps, in these units, of the type that they came in.

        Sparse rows become dense where the units have a center.
        """
        rows = self.filled(rows)
        if scipy.sparse.issparse(rows) and self.center.any():
            rows = rows.toarray()
        if scipy.sparse.issparse(rows):
            return (rows @ scipy.sparse.diags(1 / self.unit)).tocsr().astype(rows.dtype)
        return super().apply(rows).astype(rows.dtype)

    def filled(self, rows: Any) -> Any:
        """Returns rows of the user's units without gaps, which sparse ones lack."""
        if self.fill is None or scipy.sparse.issparse(rows):
            return rows
        return _filled(rows, self.fill)

    def undo(self, rows: Any, ends: tuple[Any, Any] | None = None) -> Any:
        """Returns rows in the units of the user, of the type that they came in.

        Rounding does not carry them beyond `ends`, which are in the user's, too.
        """
        if scipy.sparse.issparse(rows):
            return (rows @ scipy.sparse.diags(self.unit)).tocsr().astype(rows.dtype)
        undone = super().undo(rows)
        return (undone.clip(*ends) if ends else undone).astype(rows.dtype)

    def bounds(self, ends: Any) -> tuple[Any, ...]:
        """Returns the ends of bounds of columns in these units."""
        return tuple(Units.apply(self, end) for end in ends)


class Scaling(eqx.Module):
    """A scaling brings the columns of a model's slices to common units.

    Attributes:
        columns: For each slice its units; the same for all if `by` is "all".
        scale: "standard", "robust", the name of a transformer, or None or "none".
        by: The rows that units are of, "all" or each "slice".
        missing: What gaps are, an "error" or filled by the "median".
    """

    columns: tuple[Columns, ...]
    scale: str | None = eqx.field(static=True)
    by: str = eqx.field(static=True)
    missing: str = eqx.field(static=True)

    def extended(self, new: Slice, knn: Any = None) -> tuple[Slice, "Scaling"]:
        """Returns a further slice in its units, and the scaling with these.

        They are the units of the others, or if `by` is "slice" its own.

        Raises:
            InputError: It has no data, or other columns than the others; or its
                neighbors `knn` are known, whose distances have other units.
        """
        if knn is not None and self.scale not in UNSCALED:
            got, remedy = "comes to a model of scaled columns", "Leave it out."
            expected = "None, for neighbors have their units"
            raise InputError("precomputed_knn", got, expected, remedy)
        rows, units = _rows_of(new), self.columns[-1]
        if self.by == "slice":
            setting = self.scale if self.scale in HOW else self
            units = _units_of([new], setting, self.missing, units)
        else:
            _check_alike([len(units.unit), rows.shape[1]], f"the model and {new.name}")
        scaled = replace(new, content=units.apply(rows))
        return scaled, replace(self, columns=(*self.columns, units))

    def __getitem__(self, chosen: slice) -> "Scaling":
        """Returns the scaling of a part of the sequence."""
        return replace(self, columns=self.columns[chosen])


def scale(
    slices: Sequence[Any],
    scale: Any = "standard",
    *,
    by: str = "all",
    missing: str = "error",
) -> tuple[list[Any], Scaling | None]:
    """Returns slices in common units, as `fit` makes them, and the units.

    Args:
        slices: For each slice its data, as `aljax.fit` takes them.
        scale: As `aljax.fit` takes it, or the `Scaling` of another model whose slices
            all have the same units; None fills gaps alone.
        by: As `scale_by` of `aljax.fit`.
        missing: As in `aljax.fit`.

    Raises:
        InputError: As `aljax.fit` does.
    """
    read = read_slices(slices, missing=missing)
    in_common_units, scaling = scaled(read, scale, by=by, missing=missing)
    return [slice_.features for slice_ in in_common_units], scaling


Pool = Callable[[Sequence[Slice]], Iterable[Sequence[Slice]]]


def scaled(
    slices: Sequence[Slice], scale: Any, by: str, missing: str, knn: Any = None
) -> tuple[Sequence[Slice], Scaling | None]:
    """Returns checked slices in common units; as they are if nothing is asked for.

    Raises:
        InputError: Neighbors `knn` are known, whose distances have other units; or
            slices cannot be scaled, or not in this way.
    """
    widths = check_scale(slices, scale, by, missing, knn)
    if not widths:
        return slices, None
    alike = len({*widths}) == 1
    return in_units(slices, scale, by, missing, alike=alike, pool=lambda parts: [parts])


def check_scale(
    slices: Sequence[Slice], scale: Any, by: str, missing: str, knn: Any
) -> list[int]:
    """Returns the numbers of columns of slices to be scaled; none if none are.

    Raises:
        InputError: As `scaled`.
    """
    one_of("all", "slice")("scale_by", by)
    one_of("error", "median")("missing", missing)
    _check_setting(scale)
    if scale in UNSCALED and missing == "error":
        return []
    if knn is not None and scale not in UNSCALED:
        got, remedy = "is set beside `precomputed_knn`", "Scale by `aljax.scale` first."
        raise InputError("scale", got, "None, for neighbors have their units", remedy)
    name = "missing" if scale in UNSCALED else "scale"
    widths = [_rows_of(slice_, name).shape[1] for slice_ in slices]
    if by == "all":
        _check_alike(widths, "the slices")
    return widths


def _check_setting(scale: Any) -> None:
    """Checks that `scale` names units, or is fitted and has them."""
    kind = type(scale).__name__
    if scale is None or isinstance(scale, str):
        one_of("none", "standard", "robust", optional=True)("scale", scale)
    elif isinstance(scale, Scaling):
        if len({(c.center.tobytes(), c.unit.tobytes()) for c in scale.columns}) > 1:
            got = f"is a Scaling of {len(scale.columns)} slices with units of their own"
            remedy = "`scale.columns[t].apply(rows)` brings rows to those of slice t."
            raise InputError("scale", got, "one with the same units for all", remedy)
    elif kind not in TRANSFORMERS or getattr(scale, "clip", False):
        got, remedy = f"is {kind_of(scale)}", "Transform the slices before the fit."
        raise InputError("scale", got, TAKEN, remedy)
    elif not hasattr(scale, "n_features_in_"):
        got = f"is a {kind} that is not fitted"
        raise InputError("scale", got, TAKEN, "Call its `fit` with your rows.")


def in_units(
    slices: Sequence[Slice],
    scale: Any,
    by: str,
    missing: str,
    *,
    alike: bool,
    pool: Pool,
) -> tuple[Sequence[Slice], Scaling]:
    """Returns slices that `check_scale` has checked in common units.

    Args:
        slices: Those to scale.
        scale: As in `scale`, and so are `by` and `missing`.
        by: See there.
        missing: See there.
        alike: If the slices of the whole sequence have as many columns.
        pool: Yields all slices of the sequence, some of their columns after others.
    """
    if by == "all":
        units = [_units_of_all(slices, scale, missing, pool)] * len(slices)
    else:
        several = missing == "median" and alike
        others = _units_of_all(slices, None, missing, pool) if several else None
        units = [_units_of([slice_], scale, missing, others) for slice_ in slices]
    converted = [
        replace(slice_, content=columns.apply(slice_.features))
        for slice_, columns in zip(slices, units, strict=True)
    ]
    name = scale if scale in HOW else type(scale).__name__
    return converted, Scaling(tuple(units), name, by, missing)


def _units_of_all(
    slices: Sequence[Slice], scale: Any, missing: str, pool: Pool
) -> Columns:
    """Returns the units of the rows of the whole sequence."""
    setting = scale if scale in HOW else None
    parts = [_units_of(group, setting, missing) for group in pool(slices)]
    units = jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
    if scale not in HOW:
        units = replace(_units_of(slices, scale, "error"), fill=units.fill)
    return units


def _rows_of(slice_: Slice, name: str = "scale") -> Rows:
    """Returns a slice's rows, after a check that their columns can be scaled."""
    if slice_.features is None or slice_.metric == "haversine":
        got = f"is set, but {slice_.name} "
        got += "has angles" if slice_.features is not None else "has no columns"
        expected = "'error'" if name == "missing" else "None"
        expected += " for distances, graphs, neighbors, angles"
        raise InputError(name, got, expected)
    return slice_.features


def _check_alike(widths: Sequence[int], name: str) -> None:
    if len({*widths}) > 1:
        got = f"is 'all', but {name} have {min(widths)} to {max(widths)} columns"
        remedy = 'Scale each by itself: `scale_by="slice"`.'
        raise InputError("scale_by", got, "slices of the same columns", remedy)


def _units_of(
    slices: Sequence[Slice], scale: Any, missing: str, others: Columns | None = None
) -> Columns:
    """Returns the units of the rows of some slices, which have the same columns.

    Columns without any value are filled by the `others`.
    """
    tables: list[Any] = [slice_.features for slice_ in slices]
    sparse = any(map(scipy.sparse.issparse, tables))
    rows: Any = scipy.sparse.vstack(tables, "csr") if sparse else np.concatenate(tables)
    fill = None
    if missing == "median" and not all(map(scipy.sparse.issparse, tables)):
        fill = _medians(rows, slices[0], others)
        filled = _filled(rows, fill)
        if scale == "robust" and not sparse:  # quartiles of filled gaps fall together
            filled = np.where(np.isnan(rows).all(axis=0), filled, rows)
        rows = filled
    center, unit = _affine(scale, rows, slices[0].columns)
    if len(center) != rows.shape[1]:
        got, expected = f"is of {len(center)} columns", f"{rows.shape[1]}, as the data"
        raise InputError("scale", got, expected)
    if sparse and center.any():
        remedy = "Set its `with_mean` or `with_centering` to False."
        raise InputError("scale", "centers, but rows are sparse", "no center", remedy)
    return Columns(center, unit, fill)


def _filled(rows: Any, fill: np.ndarray) -> Any:
    """Returns rows, dense or sparse, with their gaps filled."""
    if isinstance(rows, np.ndarray):
        return np.where(np.isnan(rows), fill, rows)
    rows.data = np.where(np.isnan(rows.data), fill[rows.indices], rows.data)
    return rows


def _medians(rows: Any, first: Slice, others: Columns | None) -> np.ndarray:
    """Returns the medians of columns, of the others where a column has no value."""
    from sklearn.impute import SimpleImputer

    fill: Any = np.full(rows.shape[1], np.nan)
    if rows.shape[0]:
        fill = SimpleImputer(strategy="median").fit(rows).statistics_
    if others is not None and others.fill is not None and len(others.fill) == len(fill):
        fill = np.where(np.isnan(fill), others.fill, fill)
    if np.isnan(fill).any():
        column = int(np.isnan(fill).argmax())
        named = column if first.columns is None else repr(first.columns[column])
        got = f"is 'median', but column {named} has no value in any row"
        raise InputError("missing", got, "columns with values", "Leave the column out.")
    return fill


def _affine(scale: Any, rows: Any, names: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the center and unit of each column that scikit-learn finds, or found."""
    count, width = rows.shape
    if scale in UNSCALED or (scale in HOW and not count):
        return np.zeros(width), np.ones(width)
    if isinstance(scale, Scaling):
        return scale.columns[-1].center, scale.columns[-1].unit
    if isinstance(scale, str):
        from sklearn.preprocessing import RobustScaler, StandardScaler

        dense = not scipy.sparse.issparse(rows)
        scalers = {
            "standard": StandardScaler(with_mean=dense),
            "robust": RobustScaler(with_centering=dense),
        }
        scale = scalers[scale].fit(rows)
    fitted_names = tuple(getattr(scale, "feature_names_in_", ())) or None
    center, unit = arrange(
        np.array(_read_off(scale), float), fitted_names, names, "scale"
    )
    return center, unit


def _read_off(scaler: Any) -> tuple[Any, Any]:
    """Returns the center and unit of each column of a fitted transformer."""
    if hasattr(scaler, "min_"):
        return -scaler.min_ / scaler.scale_, 1 / scaler.scale_
    center = getattr(scaler, "mean_", getattr(scaler, "center_", None))
    center = center if getattr(scaler, "with_mean", True) else None
    columns = scaler.n_features_in_
    unit = np.ones(columns) if scaler.scale_ is None else scaler.scale_
    return np.zeros(columns) if center is None else center, unit
