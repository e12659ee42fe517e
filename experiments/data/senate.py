"""Roll calls of the US Senate, from data that come with two packages of R."""

from typing import Any, NamedTuple

import numpy as np

from experiments.data.dataset import Dataset
from experiments.data.packages import r_data

PRESIDENT = 99910  # has a row in the data of the 109th
# A senator who leaves the party gets another number: James Jeffords did in 2001.
SAME_SENATOR = {94240: 14240}
PARTIES = {"R": "Republican", "D": "Democrat", "Indep": "Independent"}
LEAST = 0.5  # of a slice's votes, for a senator to be in it


class Congress(NamedTuple):
    """One Congress of the Senate.

    Attributes:
        calls: `(senators, roll calls)`: 1 is yea, -1 nay, and 0 no vote.
        ids: Each senator's surname and number in the list of the ICPSR.
        parties: Theirs.
    """

    calls: np.ndarray
    ids: np.ndarray
    parties: np.ndarray


def senate(*, votes: int, folder: str | None) -> Dataset:
    """Loads the votes of the 106th (1999-2000) and the 109th US Senate (2005-2006).

    A slice is a run of consecutive roll calls, and has these for columns: 1 is yea, -1
    nay, and 0 no vote.  Rows are the senators who voted in at least half of them; their
    ids are surname and number in the list of the ICPSR, and their labels are parties.

    Args:
        votes: Roll calls of a slice, about.
        folder: The library of R that holds the packages MCMCpack and pscl; None for
            those that R_LIBS names, and Debian's.

    Raises:
        InputError: A package is not there, or damaged.

    Source: voteview.com, as R's packages MCMCpack (GPL-3; the 106th) and pscl (GPL-2;
        the 109th) ship them.
    """
    slices, ids, titles, labels = [], [], [], []
    congresses = {"106th": senate_106(folder), "109th": senate_109(folder)}
    for ordinal, congress in congresses.items():
        columns = np.arange(congress.calls.shape[1])
        for run in np.array_split(columns, max(1, round(len(columns) / votes))):
            calls = congress.calls[:, run]
            voted = (calls != 0).mean(axis=1) >= LEAST
            slices.append(calls[voted])
            ids.append(congress.ids[voted])
            titles.append(f"{ordinal} Senate, votes {run[0] + 1} to {run[-1] + 1}")
            labels.append(congress.parties[voted])
    relations = [members.tolist() for members in ids]
    return Dataset(slices, relations, ids, titles, labels)


def senate_106(folder: str | None) -> Congress:
    """Reads the 106th Senate, whose calls are 1 and 0, and empty where none voted."""
    table = r_data("MCMCpack", "Senate", folder)
    votes = table.filter(regex="^rc")
    calls = 1.0 * votes.eq(1).to_numpy() - votes.eq(0).to_numpy()
    surnames = table.member.astype(str).str.split(".").str[0]
    surnames = surnames.str.replace(
        "CHAFFEE[12]", "CHAFEE", regex=True
    )  # John, Lincoln
    parties = np.where(table.party == 1, "Republican", "Democrat")
    return Congress(calls, _ids(surnames, table.id), parties)


def senate_109(folder: str | None) -> Congress:
    """Reads the 109th Senate, whose calls are 1 to 3 for yea and 4 to 6 for nay."""
    data = r_data("pscl", "s109", folder)
    people = data["legis.data"].query(f"icpsrLegis != {PRESIDENT}")
    codes = data["votes"].sel(dim_0=people.index).to_numpy()
    calls = 1.0 * np.isin(codes, (1, 2, 3)) - np.isin(codes, (4, 5, 6))
    surnames = people.index.to_series().str.split(" [(]").str[0]
    numbers = people.icpsrLegis.astype(int).replace(SAME_SENATOR)
    parties = people.party.astype(str).map(PARTIES).to_numpy(dtype=str)
    return Congress(calls, _ids(surnames, numbers), parties)


def _ids(surnames: Any, numbers: Any) -> np.ndarray:
    pairs = zip(surnames, numbers, strict=True)
    return np.array([f"{surname} {number}" for surname, number in pairs])
