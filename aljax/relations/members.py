"""Members: rows of several slices that are the same, followed through the sequence."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from aljax.columns import RowValues, as_plain, is_missing, per_row
from aljax.errors import InputError
from aljax.relations.mates import Relations


class Members(NamedTuple):
    """The members of each slice, by row, as places in `names`."""

    codes: list[Int[np.ndarray, "_"]]
    names: list[str]


def members_by_id(ids: RowValues, sizes: Sequence[int]) -> Members:
    """Returns the members of rows with the same id; a missing id is nobody's."""
    places: dict[Any, int] = {}
    names: list[str] = []
    codes = []
    for t, rows in enumerate(per_row("ids", ids, sizes, exact=True)):
        code = np.empty(len(rows), dtype=int)
        for row, name in enumerate(as_plain(rows)):
            missing = is_missing(name)
            key = object() if missing else name  # such a row is nobody's mate
            code[row] = places.setdefault(key, len(names))
            if code[row] == len(names):
                names.append("" if missing else str(name))
        if len(np.unique(code)) < len(code):
            got = f"has the same id in several rows of slice {t}"
            raise InputError("ids", got, "every id at most once in a slice")
        codes.append(code)
    return Members(codes, names)


def members_by_relations(relations: Relations, sizes: Sequence[int]) -> Members:
    """Each row takes the member of its nearest earlier mate that is not taken yet."""
    codes: list[np.ndarray] = []
    names: list[str] = []
    for t, size in enumerate(sizes):
        code = np.full(size, -1)
        for before in range(t - 1, -1, -1):
            mates = relations.get((before, t - before))
            if mates is None:
                continue
            rows, others = np.asarray(mates.rows), np.asarray(mates.others)
            _, first = np.unique(others, return_index=True)
            free = first[code[others[first]] < 0]
            members, firsts = np.unique(codes[before][rows[free]], return_index=True)
            firsts = firsts[~np.isin(members, code)]
            code[others[free[firsts]]] = codes[before][rows[free[firsts]]]
        new = np.flatnonzero(code < 0)
        code[new] = len(names) + np.arange(len(new))
        names += [f"{t}-{row}" for row in new]
        codes.append(code)
    return Members(codes, names)
