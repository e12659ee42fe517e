"""Rows of any library as checked arrays of floats, or sparse matrices.

Equal rows share a number, by which they are found and put into an order.  Those that
repeat are told from the first of their kind.
"""

import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Int, UInt

from aljax.columns import (
    as_plain,
    by_number,
    by_rows,
    is_anndata,
    is_missing,
    names_of,
)
from aljax.errors import LARGEST, InputError
from aljax.graph.conditioning import PART
from aljax.graph.knn import Rows

FILL = 'set `missing="median"` in `fit`'
KEEP = f'{FILL}, and `missing="keep"` here (or "drop")'  # in slices_from_table
REFIT = 'fit with `missing="median"`, which fills new rows, too'


class GapError(InputError):
    """A value of data that is missing, infinite or too large; `row` has it."""

    row = 0

    def among(self, slices: Sequence[Any], t: int, ids: Any) -> InputError:
        """Returns the same error with the row's id, and the number of such values."""
        got = self.got
        frame_ids = slices[t].obs_names if is_anndata(slices[t]) else None
        try:
            slice_ids = as_plain(ids[t] if frame_ids is None else frame_ids)
            got += f" (id {slice_ids[self.row]!r})"
        except (TypeError, IndexError, KeyError):
            pass  # there are no ids, or they are refused where they are read
        counts = [count for count in map(_gaps_of, slices) if count]
        if sum(counts) > 1:
            got += f"; there are {sum(counts)} such values"
            got += f" in {len(counts)} slices" if len(slices) > 1 else ""
        return type(self)(self.name, got, self.expected, self.remedy)


def _gap(
    name: str,
    row: Any,
    column: Any,
    value: Any,
    names: tuple[Hashable, ...] | None = None,
) -> GapError:
    remedy = "Drop the row, fill the value, or give the column in larger units."
    fill = REFIT if name.startswith("new_") else KEEP if name == "values" else FILL
    if np.isnan(value):
        remedy = f"Drop the row, fill the value, or {fill}."
    elif np.isinf(value):
        remedy = f"Drop the row, or put NaN there and {fill}."
    expected = f"finite numbers, below {LARGEST:g} in size"
    got = f"has {value} in row {row}, {_place_of(column, names)}"
    error = GapError(name, got, expected, remedy)
    error.row = int(row)
    return error


def _place_of(column: Any, names: tuple[Hashable, ...] | None) -> str:
    return f"column {column}" + (f" ({names[column]!r})" if names else "")


def _gaps_of(table: Any) -> int:
    """Counts the values of a slice that are missing, infinite or too large."""
    try:
        rows: Any = read_rows(table, "slice", empty=True, gaps=np.inf)
    except (InputError, TypeError, ValueError):
        return 0
    return int((~np.isfinite(rows.data if scipy.sparse.issparse(rows) else rows)).sum())


def read_rows(
    table: Any,
    name: str,
    *,
    empty: bool = False,
    gaps: float | None = None,
    copy: bool = True,
) -> Rows:
    """Returns checked features or distances; `name` is the argument in errors.

    There may be no rows if `empty`.  Masked and missing entries become `gaps`: inf in
    distances, as do values that are too large; NaN in features, to be filled; or are
    refused where it is None.  An array of floats that owns its memory and may not be
    written is used as it is, and without `copy` any array of floats.

    Raises:
        GapError: A value is missing, infinite or too large.
        InputError: It is no array of numbers.
    """
    fewest = 0 if empty else 1
    if is_anndata(table):
        table = table.to_memory().X if table.isbacked else table.X
        if table is None:
            remedy = "Pass the part that you mean, such as `adata.obsm['X_pca']`."
            raise InputError(name, "is an AnnData without X", "data", remedy)
    if scipy.sparse.issparse(table):
        return _read_sparse(table, name, fewest, gaps=gaps)
    if gaps is not None and np.ma.isMaskedArray(table):
        table = np.ma.filled(table.astype(float), gaps)
    if np.ma.is_masked(table):
        remedy = "Fill the masked ones, or drop their rows."
        raise InputError(name, "is masked", "an array with all its entries", remedy)
    table = by_rows(table) if gaps == np.inf else by_number(table)
    numbers = "an array (points, features) of real numbers"
    try:
        data = np.asarray(table)
    except ValueError as error:
        raise InputError(name, f"is not an array ({error})", numbers) from error
    if data.ndim != 2 or len(data) < fewest or data.shape[1] == 0:
        remedy = ""
        if empty and data.shape[:1] == (0,):
            remedy = "A slice without rows is `np.zeros((0, features))`."
        elif data.ndim == 1 and gaps == np.inf:
            remedy = "`scipy.spatial.distance.squareform(distances)` makes a square."
        elif data.ndim == 1 and hasattr(table, "to_frame"):
            one_row = ", `.to_frame().T` for one row" if hasattr(table, "T") else ""
            remedy = f"Use `.to_frame()` for one feature{one_row}."
        elif data.ndim != 2:
            remedy = "Use `.reshape(-1, 1)` for one feature, `[row]` for one row."
        at_least = "at least one feature" if empty else "at least one of each"
        expected = f"(points, features) with {at_least}"
        raise InputError(name, f"has shape {data.shape}", expected, remedy)
    if data.dtype.kind in "cmM":
        remedy = "Convert what it means to numbers first."
        raise InputError(name, f"has dtype {data.dtype}", numbers, remedy)
    if data.dtype.kind not in "biuf":
        data = _read_objects(data, name, names_of(table), gaps=gaps)
    fixed = data.flags.owndata and not data.flags.writeable
    data = data.astype(float_of(data.dtype), copy=copy and not fixed)
    if gaps == np.inf:
        data[~(data < LARGEST)] = np.inf
    elif not -LARGEST < data.min(initial=0) <= data.max(initial=0) < LARGEST:  # nor NaN
        wrong = np.argwhere(_is_wrong(data, gaps))
        if len(wrong):
            row, column = wrong[0]
            raise _gap(name, row, column, data[row, column], names_of(table))
    return data


def _is_wrong(values: np.ndarray, gaps: float | None = None) -> np.ndarray:
    """Tells which values are infinite or too large, or missing where none may be."""
    wrong = ~(np.abs(values) < LARGEST)
    return wrong if gaps is None else wrong & ~np.isnan(values)


def _read_sparse(
    matrix: Any, name: str, fewest: int, *, gaps: float | None
) -> scipy.sparse.csr_matrix:
    """Sparse rows as float CSR, without repeated entries."""
    full = matrix.ndim == 2 and matrix.shape[0] >= fewest and matrix.shape[1]
    if not full or matrix.dtype.kind not in "biuf":
        got = f"is a sparse matrix of shape {matrix.shape} and dtype {matrix.dtype}"
        expected = "(points, features) of real numbers, with at least one of each"
        raise InputError(name, got, expected)
    data: Any = scipy.sparse.csr_matrix(matrix).astype(
        float_of(matrix.dtype), copy=True
    )
    data.sum_duplicates()
    wrong = np.flatnonzero(_is_wrong(data.data))
    if gaps == np.inf:
        data.data[~(data.data < LARGEST)] = np.inf
    elif wrong.size:
        row = int(np.searchsorted(data.indptr, wrong[0], side="right")) - 1
        raise _gap(name, row, data.indices[wrong[0]], data.data[wrong[0]])
    return data


def float_of(dtype: np.dtype) -> type:
    """Returns the float type in which a fit keeps data of another type."""
    wide = dtype.itemsize > (4 if dtype.kind == "f" else 2)
    return np.float64 if wide else np.float32


def _read_objects(
    data: np.ndarray,
    name: str,
    names: tuple[Hashable, ...] | None,
    *,
    gaps: float | None,
) -> np.ndarray:
    """Numbers kept as Python objects; text is refused even where it spells digits."""
    missing = np.vectorize(is_missing, otypes=[bool])(data)
    wrong = ~missing & ~np.vectorize(_is_number, otypes=[bool])(data)
    if wrong.any():
        raise _text(data, wrong, name, names)
    if missing.any() and gaps is None:
        row, column = np.argwhere(missing)[0]
        raise _gap(name, row, column, np.nan, names)
    try:
        return np.where(missing, np.nan if gaps is None else gaps, data).astype(float)
    except (TypeError, ValueError, OverflowError) as error:
        got = f"has dtype {data.dtype} ({error})"
        raise InputError(name, got, "real numbers") from error


def _is_number(value: Any) -> bool:
    return np.isscalar(value) and not isinstance(value, str | bytes)


def _is_numeral(value: Any) -> bool:
    try:
        return np.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _text(
    data: np.ndarray, wrong: np.ndarray, name: str, names: tuple[Hashable, ...] | None
) -> InputError:
    """Returns the error of cells that are no numbers: the first, and their number."""
    column = np.argwhere(wrong)[0][1]
    places = np.flatnonzero(wrong[:, column])
    worded = [row for row in places if not _is_numeral(data[row, column])]
    row = (worded or places)[0]
    value = data[row, column]
    got = f"has {value!r} ({type(value).__name__}) in row {row}, "
    got += _place_of(column, names)
    if wrong.sum() > 1:
        columns = wrong.any(axis=0).sum()
        got += f"; there are {wrong.sum()} such cells in "
        got += f"{columns} columns" if columns > 1 else "this column"
    remedy = "Drop the column, or convert what it means to numbers first."
    if isinstance(value, str):
        remedy = "Drop the column, encode its words by `pandas.get_dummies`, or "
        if np.mean([_is_numeral(cell) for cell in data[:, column]]) > 0.5:
            remedy += 'convert it by `pandas.to_numeric(column, errors="coerce")`, '
            remedy += "which leaves gaps."
        else:
            remedy += "take units and the like out of it by `column.str.replace`."
    comma = re.compile(r"\s*[-+]?[\d.]*,\d+\s*")
    if all(comma.fullmatch(str(data[row, column])) for row in places):
        remedy = 'Read the file by `pandas.read_csv(..., decimal=",")`.'
    return InputError(name, got, "numbers", remedy)


def prints_of(rows: Rows) -> UInt[np.ndarray, "points"]:
    """Returns a number for each row, made of its bits: the same for equal rows."""
    width = rows.dtype.itemsize // 4  # words of a cell
    factors = np.random.default_rng(0)
    factors = factors.integers(1, 2**63, (rows.shape[1], width), dtype=np.uint64)
    if not isinstance(rows, np.ndarray):
        stored: Any = rows.copy()
        stored.sum_duplicates()
        bits = (stored.data + 0).view(np.uint32).reshape(-1, width).astype(np.uint64)
        cells = (bits * factors[stored.indices]).sum(axis=1)
        upto = np.concatenate([np.zeros(1, np.uint64), cells]).cumsum()
        return upto[stored.indptr[1:]] - upto[stored.indptr[:-1]]
    prints = np.zeros(len(rows), np.uint64)
    for start in range(0, len(rows), PART):
        block = np.ascontiguousarray(rows[start : start + PART] + 0)  # -0 is 0
        bits = block.view(np.uint32).astype(np.uint64)
        prints[start : start + PART] = (bits * factors.ravel()).sum(axis=1)
    return prints


def distinct_rows(
    rows: Rows,
) -> tuple[Int[np.ndarray, "distinct"], Int[np.ndarray, "points"]]:
    """Returns the first of each kind of row, and for each row the kind that it is.

    Dense rows are sorted, sparse ones stand in the order of the data.
    """
    if isinstance(rows, np.ndarray):
        _, first, kinds = np.unique(
            rows, axis=0, return_index=True, return_inverse=True
        )
        return first, kinds.ravel()
    plain: Any = scipy.sparse.csr_matrix(rows, copy=True)
    plain.sum_duplicates()
    plain.eliminate_zeros()
    seen: dict[tuple[bytes, bytes], int] = {}
    ends = zip(plain.indptr[:-1], plain.indptr[1:], strict=True)
    keys = [(plain.indices[i:j].tobytes(), plain.data[i:j].tobytes()) for i, j in ends]
    kinds = np.array([seen.setdefault(key, len(seen)) for key in keys])
    return np.unique(kinds, return_index=True)[1], kinds


def stacked(rows: Rows, more: Rows) -> Rows:
    """Returns rows with more of them below; sparse ones stay so."""
    if isinstance(rows, np.ndarray):
        return np.concatenate(
            [rows, more if isinstance(more, np.ndarray) else more.toarray()]
        )
    return scipy.sparse.csr_matrix(scipy.sparse.vstack([rows, more]))


def chosen(values: Any, rows: np.ndarray, count: int, name: str) -> Any:
    """Returns the entries of some rows of a list, array or column of all rows."""
    if len(values) != count:
        got, expected = f"has {len(values)} entries", f"one for each of {count} rows"
        raise InputError(name, got, expected)
    if isinstance(values, list | tuple):
        return [values[row] for row in rows]
    return np.asarray(values)[rows]
