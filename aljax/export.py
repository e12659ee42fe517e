"""Maps as the tables of other libraries: a line for each point of each slice."""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.columns import RowValues, as_column, is_missing, per_row
from aljax.errors import optional
from aljax.graph.knn import Rows

AXES = ("x", "y", "z")
TAKEN = ("slice", "slice_label", "row", "id", "label")  # columns of a table of maps


def to_frame(
    maps: Sequence[Float[np.ndarray, "_ components"]],
    *,
    ids: RowValues | None = None,
    labels: RowValues | None = None,
    slice_labels: Sequence[Any] | None = None,
    **columns: RowValues,
) -> Any:
    """Returns one long table: a line for each point of each slice.

    Write it with `.to_parquet("maps.parquet")` or `.to_csv("maps.csv", index=False)`.

    Args:
        maps: One map for each slice.
        ids: For each slice its rows' ids; kept out of the table where None.
        labels: For each slice its rows' labels; likewise.
        slice_labels: The slices' labels; likewise.
        columns: More of that kind, by name.

    Returns:
        A pandas `DataFrame` with the columns slice, slice_label, row, id, label, x, y,
        (z, or component_0, component_1, ... for maps of more), then the others.

    Raises:
        ValueError: Values that do not fit the slices, or a name that is taken.
        ImportError: pandas is not installed.
    """
    pandas = optional("pandas", "frames")
    sizes = [*map(len, maps)]
    axes = axis_names(maps[0].shape[1])
    for name in columns:
        if name in (*TAKEN, *axes):
            raise ValueError(f"`{name}` is a column of the table already; rename it.")
    table = {"slice": np.repeat(np.arange(len(sizes)), sizes)}
    if slice_labels is not None:
        listed = as_column([*slice_labels], "slice_labels")
        table["slice_label"] = np.repeat(listed, sizes)
    table["row"] = np.concatenate([*map(np.arange, sizes)])
    if ids is not None:
        table["id"] = _joined(per_row("ids", ids, sizes, exact=True))
    if labels is not None:
        table["label"] = _joined(per_row("labels", labels, sizes, exact=True))
    table |= dict(zip(axes, np.concatenate(maps).T, strict=True))
    for name, values in columns.items():
        table[name] = _joined(per_row(name, values, sizes))
    return pandas.DataFrame(table)


def _joined(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Joins a column of all slices; NumPy would make text of numbers beside text."""
    numeric = {column.dtype.kind in "biuf" for column in columns}
    if len(numeric) > 1:
        columns = [column.astype(object) for column in columns]
    return np.concatenate(columns)


def to_anndata(
    frame: Any,
    data: Sequence[Rows | None],
    components: int,
    names: Sequence[Hashable] | None = None,
) -> Any:
    """Returns the points of all slices as one `AnnData`, for single-cell tools.

    Args:
        frame: What `to_frame` made of the maps.
        data: Each slice's data, dense or sparse; left out where any is missing or
            where their columns differ in number.
        components: Dimensions of the maps.
        names: The names of the data's columns, if they have any.

    Returns:
        An `AnnData` with the data in `X`, the positions in `obsm["X_umap"]`, and
        everything else in `obs`, as text where files cannot hold it (times, tuples,
        numbers beside text or None).

    Raises:
        ImportError: anndata is not installed.
    """
    anndata = optional("anndata", "anndata")
    axes = [*axis_names(components)]
    present = [rows for rows in data if rows is not None]
    same = len(present) == len(data) and len({rows.shape[1] for rows in present}) == 1
    obs = frame.drop(columns=axes).apply(_as_text).astype({"slice": "category"})
    if "slice_label" in obs:
        obs["slice_label"] = obs["slice_label"].map(str).astype("category")
    obs.index = [
        f"{t}-{row}" for t, row in zip(frame["slice"], frame["row"], strict=True)
    ]
    dense = all(isinstance(rows, np.ndarray) for rows in present)
    stack: Any = np.concatenate if dense else partial(scipy.sparse.vstack, format="csr")
    cells = anndata.AnnData(
        X=stack(present) if same else None,
        obs=obs,
        obsm={"X_umap": frame[axes].to_numpy()},
    )
    if same and names is not None:
        cells.var_names = [*map(str, names)]
    return cells


def _as_text(column: Any) -> Any:
    """Returns a column as text if files of AnnData cannot hold it; gaps stay."""
    if column.dtype.kind not in "OMm":
        return column
    return column.map(lambda x: None if is_missing(x) else str(x)).astype(object)


def axis_names(components: int) -> tuple[str, ...]:
    """Returns the names that a table's columns of positions have."""
    if components > len(AXES):
        return tuple(f"component_{i}" for i in range(components))
    return AXES[:components]
