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

from aljax.graph.slices import read_slices, slices_of
from aljax.relations.read import read_relations
from experiments.data.archives import DAMAGE, read_npy, read_npz, short

NPY = b"\x93NUMPY"  # as every .npy begins


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
    except ValueError as error:
        raise ValueError(_by_name(error, path, [*arrays])) from error
    return dict(zip(arrays, (np.asarray(one.given) for one in slices), strict=True))


def read_labels(path: str, slices: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """One array of labels for each slice, in the formats of the data.

    Raises:
        ValueError: As for the data, or labels that do not fit the slices.
    """
    arrays = _read_arrays(path, "data.labels")
    if len(arrays) != len(slices):
        raise ValueError(
            f"`data.labels`: {path} has {len(arrays)} arrays for {len(slices)} slices; "
            "expected one for each slice, in the same order."
        )
    for (name, labels), (of, data) in zip(arrays.items(), slices.items(), strict=True):
        if labels.shape != (len(data),):
            raise ValueError(
                f"`data.labels`: {name} in {path} has shape {labels.shape}; expected "
                f"({len(data)},), one label for each row of {of}."
            )
    # Together they get one type, where some are numbers and some are text.
    together = np.concatenate([*arrays.values()])
    ends = np.cumsum([len(one) for one in slices.values()])
    return np.split(together, ends[:-1])


def _by_name(error: ValueError, path: str, names: Sequence[str]) -> str:
    """The library's message about `slices[t]`, about the file or array instead."""

    def rename(match: re.Match[str]) -> str:
        return f"{names[int(match[1])]} in {path}"

    return "`data.path`: " + re.sub(r"`slices\[(\d+)\]`", rename, str(error))


def _read_arrays(path: str, setting: str) -> dict[str, np.ndarray]:
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(place.glob("*.npy"), key=lambda file: natural_order(file.stem))
        _check_found(place, files, setting)
        return {file.stem: _load_npy(file, setting) for file in files}
    if not place.exists():
        raise ValueError(
            f"`{setting}` is {path}, and nothing is there; expected a folder with one "
            ".npy for each slice, or one .npz. A relative path starts at "
            f"{Path.cwd()}."
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
        raise ValueError(
            f"`data.path` is {path}, which is no folder; expected one with an .npy for "
            "each slice, so that every process reads its own."
        )
    files = sorted(place.glob("*.npy"), key=lambda file: natural_order(file.stem))
    _check_found(place, files, "data.path")
    mine = own(len(files))
    names = [file.stem for file in files[mine.start : mine.stop]]
    read = [_load_npy(file, "data.path") for file in files[mine.start : mine.stop]]
    try:
        checked = read_slices(read)
    except ValueError as error:
        raise ValueError(_by_name(error, path, names)) from error
    kept = dict(zip(names, (np.asarray(one.given) for one in checked), strict=True))
    return {
        file.stem: kept.get(file.stem, np.empty((_rows_of(file), 0))) for file in files
    }


def _rows_of(file: Path) -> int:
    """The rows that the header of an `.npy` tells of."""
    try:
        return len(np.load(file, mmap_mode="r", allow_pickle=False))
    except (*DAMAGE, TypeError) as error:
        raise ValueError(
            f"`data.path`: {file} cannot be read as an array ({short(error)})."
        ) from error


def _check_found(place: Path, files: Sequence[Path], setting: str) -> None:
    if not files:
        held = sorted(entry.name for entry in place.iterdir())[:3]
        raise ValueError(
            f"`{setting}`: the folder {place} has no .npy file, but "
            f"{', '.join(held) or 'nothing'}; expected one .npy for each slice, "
            "written by numpy.save."
        )


def _load_npy(file: Path, setting: str) -> np.ndarray:
    loaded = _load(file)
    if isinstance(loaded, np.ndarray):
        return loaded
    reason = "it is an .npz" if isinstance(loaded, dict) else loaded
    raise ValueError(
        f"`{setting}`: {file} cannot be read as an array ({reason}); expected a whole "
        ".npy of numbers without Python objects. Write it again with "
        "numpy.save(file, array.astype(float))."
    )


def _load_npz(file: Path, setting: str) -> dict[str, np.ndarray]:
    loaded = _load(file)
    if isinstance(loaded, dict) and loaded:
        return loaded
    what = "empty" if isinstance(loaded, dict) else "an .npy"
    reason = loaded if isinstance(loaded, str) else f"it is {what}"
    raise ValueError(
        f"`{setting}`: {file} cannot be read ({reason}); expected a whole .npz with "
        "one array of numbers for each slice, without Python objects. Write it again "
        "with numpy.savez(file, *slices)."
    )


def _load(file: Path) -> np.ndarray | dict[str, np.ndarray] | str:
    """What a file holds, one array or several, or why it cannot be read."""
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
        f"expected a JSON list of {len(slices) - 1} objects, one for each pair of "
        'consecutive slices, from row to row, such as [{"150": 0, "151": 1}]'
    )
    if path is None:
        if len(slices) > 1:
            raise ValueError(
                f"`data.relations` is null, but there are {len(slices)} slices; "
                f"{wanted}. Give data.relations=FILE."
            )
        return []
    try:
        # Pairs instead of dicts: a dict would drop a row that stands there twice.
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
        entries = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(
            f"`data.relations`: {path} cannot be read ({short(error)}); {wanted}."
        ) from error
    if not isinstance(entries, list) or not all(isinstance(e, tuple) for e in entries):
        raise ValueError(f"`data.relations`: {path} is something else; {wanted}.")
    relations = [_rows(entry, f"{path}, object {t}") for t, entry in enumerate(entries)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `fit` warns of the same
            data = [*slices.values()]
            read_relations(
                relations, slices_of([*map(len, data)], data), alignment_window_size=1
            )
    except ValueError as error:
        raise ValueError(f"`data.relations`: {path}: {error}") from error
    return relations


def _rows(entry: Sequence[tuple[str, Any]], name: str) -> dict[int, int]:
    """One JSON object, whose keys can only be text, as rows to rows."""
    relation: dict[int, int] = {}
    for key, value in entry:
        if not re.fullmatch(r"[0-9]{1,18}", key):
            raise ValueError(
                f'`data.relations`: {name} has the key "{key}"; expected a row of the '
                'earlier slice as text, such as "150".'
            )
        if type(value) is not int or not 0 <= value < 10**18:
            raise ValueError(
                f'`data.relations`: {name} maps "{key}" to {json.dumps(value)}; '
                "expected a row of the later slice, a whole number from 0."
            )
        if int(key) in relation:
            raise ValueError(
                f"`data.relations`: {name} has row {key} twice; expected one mate for "
                "each row."
            )
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
