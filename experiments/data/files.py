"""Reads a user's own files; every refusal names its file.

Nothing here unpickles: files come from anywhere.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import aljax
from aljax.checks import one_of
from aljax.distributed.agreement import digest
from aljax.errors import InputError
from aljax.graph.slices import read_slices, slices_of
from aljax.relations.read import read_relations
from experiments.data.archives import DAMAGE, read_npy, read_npz, short
from experiments.data.columns import warn_of_columns
from experiments.data.dataset import TRANSPORT, Dataset, coupled
from experiments.data.dates import natural_order

NPY = b"\x93NUMPY"  # as every .npy begins
NPY_EXPECTED = (
    "a whole .npy of numbers without Python objects",
    "Write it again with numpy.save(file, array.astype(float)).",
)
NPZ_EXPECTED = (
    "a whole .npz with one array of numbers for each slice, without Python objects",
    "Write it again with numpy.savez(file, *slices).",
)


Share = Callable[[dict[str, int]], range]
REMEDY = "Give data.relations=FILE, or transport where nothing says who is who."


def own_files(
    *,
    path: str,
    relations: str | None,
    labels: str | None,
    scale: str = "none",
    scale_by: str = "all",
    share: Share | None = None,
) -> Dataset:
    """Reads a user's own arrays: a folder with one `.npy` for each slice, or an `.npz`.

    Slices are in the natural order of the names; a single one needs no relations.

    Args:
        path: A folder with one .npy for each slice, an .npz, or a lone .npy.
        relations: A JSON list of objects {"row of t": row of t+1}.
        labels: One array of labels for each slice, in the formats of the data.
        scale: "none", "standard" (mean 0, deviation 1) or "robust" (by quartiles).
        scale_by: The rows that a scale is of: "all", or each "slice" by itself.
        share: See `read_data`.

    Raises:
        InputError: A file is missing or cannot be read, or the files do not fit.
    """
    slices = read_data(path, share)
    classes = None if labels is None else read_labels(labels, slices)
    return related(
        slices, relations, labels=classes, scale=scale, scale_by=scale_by, share=share
    )


def related(
    slices: Mapping[str, np.ndarray],
    relations: str | None,
    *,
    ids: Sequence[np.ndarray] | None = None,
    scale: str = "none",
    scale_by: str = "all",
    share: Share | None = None,
    **known: Any,
) -> Dataset:
    """Returns the dataset of slices by name, related by a file or by their data.

    Args:
        slices: The data.
        relations: A JSON file, or transport; None relates rows of the same id.
        ids: For each slice its rows' ids, if they have any.
        scale: As `own_files` has it; processes that share the slices scale them when
            they fit.
        scale_by: Likewise.
        share: See `read_data`.
        **known: Other fields of the dataset.

    Raises:
        InputError: The file cannot be read or does not fit, nothing relates rows, or
            slices cannot be scaled.
    """
    one_of("none", "standard", "robust")("data.scale", scale)
    one_of("all", "slice")("data.scale_by", scale_by)
    mates: Any = ids
    if relations == TRANSPORT:
        mates = [{}] * (len(slices) - 1)
    elif relations is not None or ids is None:
        mates = read_relations_file(relations, slices)
    sizes = [*map(len, slices.values())]
    members = member_ids(mates, sizes) if ids is None else ids
    rows = [*slices.values()]
    dataset = Dataset(rows, mates, members, [*slices], **known)
    dataset = replace(dataset, scale=scale, scale_by=scale_by)
    if not share:
        dataset = _compared(dataset)
    elif scale == "none":
        dataset = replace(dataset, scale=None)  # then the fit looks at the columns
    return coupled(dataset) if relations == TRANSPORT else dataset


def _compared(dataset: Dataset) -> Dataset:
    """Returns a dataset in its units, and warns of columns that decide alone."""
    widths = {rows.shape[1] for rows in dataset.slices}
    scale: Any = dataset.scale
    # Square slices may be distances, which have no units.
    square = all(len(rows) == rows.shape[1] for rows in dataset.slices)
    if len(widths) == 1 and not square:
        names = dataset.columns or range(*widths)
        warn_of_columns(dataset, dataset.slices, names, scale)
    if scale == "none":
        return dataset
    try:
        rows, scaling = aljax.scale(dataset.slices, scale, by=dataset.scale_by)
    except InputError as error:
        raise error.renamed(f"data.{error.name}") from error
    sums = [*map(digest, dataset.slices)]  # as of processes, which scale when they fit
    return replace(dataset, slices=rows, scaling=scaling, scale="none", sums=sums)


def read_data(path: str, share: Share | None = None) -> dict[str, np.ndarray]:
    """Returns checked slices by name: a folder of `.npy`, an `.npz`, or a lone `.npy`.

    Args:
        path: The folder or file; with `share` it is a folder.
        share: Of the names of all slices with their rows, from the files' headers, the
            slices to read; the others have their rows, but no columns. None reads all.

    Raises:
        InputError: Nothing is there, a file cannot be read, or an array is not a
            slice.
    """
    rows: dict[str, int] = {}
    if share is None:
        arrays = _read_arrays(path, "data.path")
    else:
        place = Path(path).expanduser()
        if not place.is_dir():
            expected = "a folder with an .npy for each slice"
            remedy = "Of these, every process reads its own."
            raise InputError("data.path", f"is {path}", expected, remedy)
        files = _files(place, "data.path")
        rows = {file.stem: _rows_of(file) for file in files}
        own_range = share(rows)
        arrays = _load_all(files[own_range.start : own_range.stop], "data.path")
    try:
        slices = read_slices([*map(fixed, arrays.values())])
    except InputError as error:
        raise _located(error, "data.path", path, [*arrays]) from error
    contents = [fixed(np.asarray(slice_.content)) for slice_ in slices]
    unread = {name: np.empty((count, 0)) for name, count in rows.items()}
    return unread | dict(zip(arrays, contents, strict=True))


def fixed(array: np.ndarray) -> np.ndarray:
    """Returns an array that may not be written any more: a fit makes no copy of it."""
    array.flags.writeable = False
    return array


def read_labels(path: str, slices: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Returns one array of labels for each slice, in the formats of the data.

    Raises:
        InputError: As for the data, or the labels do not fit the slices.
    """
    arrays = _read_arrays(path, "data.labels")
    if len(arrays) != len(slices):
        got = f"is {path}, which has {len(arrays)} arrays for {len(slices)} slices"
        raise InputError("data.labels", got, "one for each slice, in the same order")
    for (name, labels), (slice_name, data) in zip(
        arrays.items(), slices.items(), strict=True
    ):
        if labels.shape != (len(data),):
            got = f"of {name} in {path} has shape {labels.shape}"
            expected = f"({len(data)},), one label for each row of {slice_name}"
            raise InputError("data.labels", got, expected)
    # Together they get one type, where some are numbers and some are text.
    joined = np.concatenate([*arrays.values()])
    ends = np.cumsum([*map(len, slices.values())])
    return np.split(joined, ends[:-1])


def _located(
    error: InputError, setting: str, path: str, parts: Sequence[str]
) -> InputError:
    """Returns the library's error about `slices[t]` as one about a part of the file."""
    index = re.search(r"\[(\d+)\]", error.name)
    part = f"{parts[int(index[1])]} in " if index else ""
    return error.renamed(setting).of(f"{part}{path}")


def _read_arrays(path: str, setting: str) -> dict[str, np.ndarray]:
    place = Path(path).expanduser()
    if place.is_dir():
        return _load_all(_files(place, setting), setting)
    if not place.exists():
        raise InputError(
            setting,
            f"is {path}, and nothing is there",
            "a folder with one .npy for each slice, or one .npz",
            f"A relative path starts at {Path.cwd()}.",
        )
    return _load(place, setting, lone=place.suffix == ".npy")


def _files(place: Path, setting: str) -> list[Path]:
    """Returns the `.npy` files of a folder in their natural order."""
    files = sorted(place.glob("*.npy"), key=lambda file: natural_order(file.stem))
    if not files:
        entries = sorted(entry.name for entry in place.iterdir())[:3]
        got = (
            f"is {place}, which has no .npy file, but {', '.join(entries) or 'nothing'}"
        )
        raise InputError(setting, got, "one .npy for each slice, written by numpy.save")
    return files


def _load_all(files: Sequence[Path], setting: str) -> dict[str, np.ndarray]:
    return {file.stem: _load(file, setting, lone=True)[file.stem] for file in files}


def _load(file: Path, setting: str, *, lone: bool) -> dict[str, np.ndarray]:
    """Returns the array of an `.npy` (lone), or those of an `.npz`, by name."""
    try:
        with file.open("rb") as opened:
            is_lone = opened.read(len(NPY)) == NPY
            opened.seek(0)
            arrays = (
                {file.stem: read_npy(opened, file.stat().st_size)}
                if is_lone
                else read_npz(file)
            )
        kind = ".npy" if is_lone else ".npz"
        reason = f"it is an {kind}" if arrays else "it is empty"
    except DAMAGE as error:
        is_lone, arrays, reason = lone, {}, short(error)
    if arrays and is_lone == lone:
        return {name: arrays[name] for name in sorted(arrays, key=natural_order)}
    raise _unreadable(setting, file, reason, *(NPY_EXPECTED if lone else NPZ_EXPECTED))


def _rows_of(file: Path) -> int:
    """Returns the rows that the header of an `.npy` tells of."""
    try:
        return len(np.load(file, mmap_mode="r", allow_pickle=False))
    except (*DAMAGE, TypeError) as error:
        raise _unreadable("data.path", file, short(error), *NPY_EXPECTED) from error


def _unreadable(
    setting: str, path: Path | str, reason: str, expected: str, remedy: str = ""
) -> InputError:
    got = f"is {path}, which cannot be read ({reason})"
    return InputError(setting, got, expected, remedy)


def read_relations_file(
    path: str | None, slices: Mapping[str, np.ndarray]
) -> list[dict[int, int]]:
    """Returns checked relations of a JSON list of objects {"row of t": row of t+1}.

    Args:
        path: The file; None is enough for a single slice.
        slices: The data that it relates.

    Raises:
        InputError: The file cannot be read, is not such a list, or does not fit the
            slices.
    """
    wanted = f"a JSON list of {len(slices) - 1} objects, one for each pair of "
    wanted += 'consecutive slices, from row to row, such as [{"150": 0, "151": 1}]'
    if path is None:
        if len(slices) > 1:
            got = f"is null, but there are {len(slices)} slices"
            raise InputError("data.relations", got, wanted, REMEDY)
        return []
    try:
        # Pairs instead of dicts: a dict would drop a row that stands there twice.
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
        entries = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, OSError, RecursionError) as error:
        raise _unreadable("data.relations", path, short(error), wanted) from error
    if not isinstance(entries, list) or not all(isinstance(e, tuple) for e in entries):
        got = f"is {path}, which holds something else"
        raise InputError("data.relations", got, wanted)
    objects = [f"object {t}" for t in range(len(entries))]
    relations = [
        _rows(entry, f"{name} in {path}")
        for entry, name in zip(entries, objects, strict=True)
    ]
    data = [*slices.values()]
    sized = slices_of([*map(len, data)], data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `fit` warns of the same
            read_relations(relations, sized, alignment_window_size=1)
    except InputError as error:
        raise _located(error, "data.relations", path, objects) from error
    return relations


def _rows(entry: Sequence[tuple[str, Any]], name: str) -> dict[int, int]:
    """Returns a JSON object, whose keys can only be text, as rows to rows."""
    relation: dict[int, int] = {}
    for key, value in entry:
        got = expected = ""
        if not re.fullmatch(r"[0-9]{1,18}", key):
            got = f'has the key "{key}"'
            expected = 'a row of the earlier slice as text, such as "150"'
        elif type(value) is not int or not 0 <= value < 10**18:
            got = f'maps "{key}" to {json.dumps(value)}'
            expected = "a row of the later slice, a whole number from 0"
        elif int(key) in relation:
            got, expected = f"has row {key} twice", "one mate for each row"
        if got:
            raise InputError("data.relations", f"of {name} {got}", expected)
        relation[int(key)] = value
    return relation


def member_ids(
    relations: Sequence[Mapping[int, int]], sizes: Sequence[int]
) -> list[np.ndarray]:
    """Returns each slice's members: mates share a number, all others have theirs."""
    ids = [np.arange(sizes[0])]
    for relation, size in zip(relations, sizes[1:], strict=True):
        members = np.full(size, -1)
        rows, others = np.array([*relation.items()], int).reshape(-1, 2).T
        members[others] = ids[-1][rows]
        new = members < 0
        members[new] = (
            1 + max(int(m.max(initial=-1)) for m in ids) + np.arange(new.sum())
        )
        ids.append(members)
    return ids
