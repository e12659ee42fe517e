"""A user's own files in, arrays and relations out; every refusal names its file.

Nothing here unpickles: files come from anywhere.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aljax.errors import InputError
from aljax.graph.slices import read_slices, slices_of
from aljax.relations.read import read_relations
from experiments.data.archives import DAMAGE, read_npy, read_npz, short

NPY = b"\x93NUMPY"  # as every .npy begins
NPY_EXPECTED = (
    "a whole .npy of numbers without Python objects",
    "Write it again with numpy.save(file, array.astype(float)).",
)
NPZ_EXPECTED = (
    "a whole .npz with one array of numbers for each slice, without Python objects",
    "Write it again with numpy.savez(file, *slices).",
)


def natural_order(name: str) -> list[str | int]:
    """A key that sorts slice2 before slice10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)]


def read_data(path: str) -> dict[str, np.ndarray]:
    """Checked slices by name: a folder of `.npy`, one `.npz`, or a lone `.npy`.

    Raises:
        ValueError: Nothing there, a file that cannot be read, or an array that is no
            slice.
    """
    arrays = _read_arrays(path, "data.path")
    try:
        slices = read_slices(list(arrays.values()))
    except InputError as error:
        raise _located(error, "data.path", path, [*arrays]) from error
    return dict(zip(arrays, (np.asarray(one.given) for one in slices), strict=True))


def read_labels(path: str, slices: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """One array of labels for each slice, in the formats of the data.

    Raises:
        ValueError: As for the data, or labels that do not fit the slices.
    """
    arrays = _read_arrays(path, "data.labels")
    if len(arrays) != len(slices):
        got = f"is {path}, which has {len(arrays)} arrays for {len(slices)} slices"
        raise InputError("data.labels", got, "one for each slice, in the same order")
    for (name, labels), (of, data) in zip(arrays.items(), slices.items(), strict=True):
        if labels.shape != (len(data),):
            got = f"of {name} in {path} has shape {labels.shape}"
            expected = f"({len(data)},), one label for each row of {of}"
            raise InputError("data.labels", got, expected)
    # Together they get one type, where some are numbers and some are text.
    together = np.concatenate([*arrays.values()])
    ends = np.cumsum([len(one) for one in slices.values()])
    return np.split(together, ends[:-1])


def _located(
    error: InputError, setting: str, path: str, parts: Sequence[str]
) -> InputError:
    """The library's error about `slices[t]`, about part t of the file instead."""
    index = re.search(r"\[(\d+)\]", error.name)
    part = f"{parts[int(index[1])]} in " if index else ""
    return error.renamed(setting).of(f"{part}{path}")


def _read_arrays(path: str, setting: str) -> dict[str, np.ndarray]:
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(place.glob("*.npy"), key=lambda file: natural_order(file.stem))
        _check_found(place, files, setting)
        return {file.stem: _load_npy(file, setting) for file in files}
    if not place.exists():
        raise InputError(
            setting,
            f"is {path}, and nothing is there",
            "a folder with one .npy for each slice, or one .npz",
            f"A relative path starts at {Path.cwd()}.",
        )
    if place.suffix == ".npy":
        return {place.stem: _load_npy(place, setting)}
    return _load_npz(place, setting)


def read_part(path: str, own: Callable[[int], range]) -> dict[str, np.ndarray]:
    """Slices by name, of which only some are read.

    Args:
        path: A folder with one `.npy` for each slice.
        own: Of the number of slices, those to read; the others have their rows, from
            the files' headers, and no columns.

    Raises:
        ValueError: As `read_data`, or no folder.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        expected = "a folder with an .npy for each slice"
        remedy = "Of these, every process reads its own."
        raise InputError("data.path", f"is {path}", expected, remedy)
    files = sorted(place.glob("*.npy"), key=lambda file: natural_order(file.stem))
    _check_found(place, files, "data.path")
    mine = own(len(files))
    names = [file.stem for file in files[mine.start : mine.stop]]
    read = [_load_npy(file, "data.path") for file in files[mine.start : mine.stop]]
    try:
        checked = read_slices(read)
    except InputError as error:
        raise _located(error, "data.path", path, names) from error
    kept = dict(zip(names, (np.asarray(one.given) for one in checked), strict=True))
    return {
        file.stem: kept.get(file.stem, np.empty((_rows_of(file), 0))) for file in files
    }


def _rows_of(file: Path) -> int:
    """The rows that the header of an `.npy` tells of."""
    try:
        return len(np.load(file, mmap_mode="r", allow_pickle=False))
    except (*DAMAGE, TypeError) as error:
        raise _unreadable("data.path", file, short(error), *NPY_EXPECTED) from error


def _check_found(place: Path, files: Sequence[Path], setting: str) -> None:
    if not files:
        held = sorted(entry.name for entry in place.iterdir())[:3]
        got = f"is {place}, which has no .npy file, but {', '.join(held) or 'nothing'}"
        raise InputError(setting, got, "one .npy for each slice, written by numpy.save")


def _load_npy(file: Path, setting: str) -> np.ndarray:
    loaded = _load(file)
    if isinstance(loaded, np.ndarray):
        return loaded
    reason = "it is an .npz" if isinstance(loaded, dict) else loaded
    raise _unreadable(setting, file, reason, *NPY_EXPECTED)


def _load_npz(file: Path, setting: str) -> dict[str, np.ndarray]:
    loaded = _load(file)
    if isinstance(loaded, dict) and loaded:
        return loaded
    what = "empty" if isinstance(loaded, dict) else "an .npy"
    reason = loaded if isinstance(loaded, str) else f"it is {what}"
    raise _unreadable(setting, file, reason, *NPZ_EXPECTED)


def _unreadable(
    setting: str, path: Path | str, reason: str, expected: str, remedy: str = ""
) -> InputError:
    got = f"is {path}, which cannot be read ({reason})"
    return InputError(setting, got, expected, remedy)


def _load(file: Path) -> np.ndarray | dict[str, np.ndarray] | str:
    """Returns the array or arrays of a file, or says why it cannot be read."""
    try:
        with file.open("rb") as opened:
            if opened.read(len(NPY)) == NPY:
                opened.seek(0)
                return read_npy(opened, file.stat().st_size)
        arrays = read_npz(file)
        return {name: arrays[name] for name in sorted(arrays, key=natural_order)}
    except DAMAGE as error:
        return short(error)


def read_relations_file(
    path: str | None, slices: Mapping[str, np.ndarray]
) -> list[dict[int, int]]:
    """Checked relations from a JSON list of objects {"row of t": row of t+1}.

    Args:
        path: The file; None is enough for a single slice.
        slices: The data that it relates.

    Raises:
        ValueError: A file that cannot be read, is no such list, or does not fit the
            slices.
    """
    wanted = (
        f"a JSON list of {len(slices) - 1} objects, one for each pair of "
        'consecutive slices, from row to row, such as [{"150": 0, "151": 1}]'
    )
    if path is None:
        if len(slices) > 1:
            got = f"is null, but there are {len(slices)} slices"
            raise InputError("data.relations", got, wanted, "Give data.relations=FILE.")
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `fit` warns of the same
            data = [*slices.values()]
            read_relations(
                relations, slices_of([*map(len, data)], data), alignment_window_size=1
            )
    except InputError as error:
        raise _located(error, "data.relations", path, objects) from error
    return relations


def _rows(entry: Sequence[tuple[str, Any]], name: str) -> dict[int, int]:
    """One JSON object, whose keys can only be text, as rows to rows."""
    relation: dict[int, int] = {}
    for key, value in entry:
        if not re.fullmatch(r"[0-9]{1,18}", key):
            raise InputError(
                "data.relations",
                f'of {name} has the key "{key}"',
                'a row of the earlier slice as text, such as "150"',
            )
        if type(value) is not int or not 0 <= value < 10**18:
            raise InputError(
                "data.relations",
                f'of {name} maps "{key}" to {json.dumps(value)}',
                "a row of the later slice, a whole number from 0",
            )
        if int(key) in relation:
            got = f"of {name} has row {key} twice"
            raise InputError("data.relations", got, "one mate for each row")
        relation[int(key)] = value
    return relation


def member_ids(
    relations: Sequence[Mapping[int, int]], sizes: Sequence[int]
) -> list[np.ndarray]:
    """For each slice its rows' members: mates share a number, all others have theirs.

    Args:
        relations: Checked relations, rows of t to rows of t+1.
        sizes: Rows of each slice.
    """
    ids = [np.arange(sizes[0])]
    for relation, size in zip(relations, sizes[1:], strict=True):
        members = np.full(size, -1)
        rows, others = np.array([*relation.items()], int).reshape(-1, 2).T
        members[others] = ids[-1][rows]
        new = members < 0
        known = 1 + max(int(one.max()) for one in ids)
        members[new] = known + np.arange(new.sum())
        ids.append(members)
    return ids
