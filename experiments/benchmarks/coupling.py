"""Reads couplings of slices whose ids are hidden, and the maps that they hold.

    python -m experiments.benchmarks.coupling [walk strangers moscot speed ...]

Of each sequence 30 % of the rows of every slice are left out at random and the rest
are shuffled, but of "freedom" and "seasons", whose members come and go by themselves;
ids serve only to read the result.  Means over seeds 0, 1 and 2.  Beside
the maps held by the coupling stand those held by ids, one map of all slices pooled, and
maps of single slices, each turned onto the one before by the coupling.  The part
"moscot" compares with the couplings of that package where it is installed.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from scipy.sparse import csr_array
from sklearn.neighbors import KNeighborsClassifier

import aljax
from aljax.layout.initialize import turn_onto
from aljax.metrics import displacement, neighborhood_preservation
from experiments.benchmarks.parts import Row, alone, over_seeds, run_parts
from experiments.clocks import clocked, peak_memory
from experiments.command import MissingPeerError
from experiments.data import countries, sequences, sources
from experiments.data.baseball import baseball
from experiments.data.dataset import Dataset, consecutive
from experiments.results.records import means

MISSING = 0.3  # of the rows of each slice
UNBALANCED = 0.95  # of moscot: the lower, the sooner a row gives up its mass
SHARE = 0.05  # of a slice's rows are neighbors, for preservation
Maps = Sequence[np.ndarray]
Ids = Sequence[np.ndarray]


def thinned(
    slices: Maps, seed: int, members: Sequence[Any] | None = None
) -> tuple[Maps, Ids]:
    """Returns slices without some of their rows, in another order, and the ids.

    Where `members` come and go, and are named, no row is left out.
    """
    rng, share = np.random.default_rng(seed), 1 if members else 1 - MISSING
    sizes = [*map(len, slices)]
    ids = [[*map(str, names)] for names in members] if members else map(range, sizes)
    orders = [rng.permutation(size)[: round(size * share)] for size in sizes]
    rows, names = (
        [np.asarray(x)[order] for x, order in zip(arrays, orders, strict=True)]
        for arrays in (slices, ids)
    )
    return rows, names


def read_coupling(coupling: aljax.Coupling, ids: Ids) -> Row:
    """Returns recall, the mass of rows without mates, and who is called a mate."""
    rows, plans = [], matrices(coupling)
    for t, (is_called, _) in enumerate(coupling.has_mate()):
        has_mate = np.isin(ids[t], ids[t + 1])
        mass = coupling.plans[t].strict[0][~has_mate].sum()
        measures = {
            "mass without mate": mass / max((~has_mate).sum(), 1),
            "FDR": (is_called & ~has_mate).sum() / max(is_called.sum(), 1),
            "power": (is_called & has_mate).sum() / has_mate.sum(),
        }
        rows.append(recalled(plans[t], ids[t : t + 2]) | measures)
    return means(rows)


def recalled(plan: csr_array, ids: Ids) -> Row:
    """Returns how many rows that come again have their mate among their heaviest."""
    ids_before, ids_after = ids
    rows, others = plan.nonzero()
    mass: Any = plan.data
    order = np.lexsort((-mass, rows))
    rows, others = rows[order], others[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    is_mate = ids_before[rows] == ids_after[others]
    n_recurring = np.isin(ids_before, ids_after).sum()
    return {f"recall@{k}": is_mate[rank < k].sum() / n_recurring for k in (1, 10)}


def matrices(coupling: aljax.Coupling) -> list[csr_array]:
    """Returns for each two consecutive slices the mass of each pair of rows."""
    return [
        csr_array((plan.mass, (plan.rows, plan.others)), coupling.sizes[t : t + 2])
        for t, plan in enumerate(coupling.plans)
    ]


def singles(slices: Maps, seed: int) -> Maps:
    """Returns a map of each slice by itself."""
    return [aljax.fit([rows], key=jax.random.key(seed)).maps[0] for rows in slices]


def held(slices: Maps, coupling: aljax.Coupling, seed: int) -> dict[str, Maps]:
    """Returns maps that know of no ids.

    They are held by the coupling, cut out of one map of all rows, or single maps that
    the coupling turns onto each other.
    """
    key = jax.random.key(seed)
    (together,) = aljax.fit([np.vstack(slices)], key=key).maps
    first, *others = singles(slices, seed)
    turned = [first]
    for plan, new in zip(coupling.plans, others, strict=True):
        pairs = new[plan.others], turned[-1][plan.rows]
        turned.append(turn_onto(new, *pairs, weights=plan.mass))
    return {
        "held by the coupling": aljax.fit(slices, coupling, key=key).maps,
        "pooled": np.split(together, np.cumsum([*map(len, slices)])[:-1]),
        "turned by the coupling": turned,
    }


def preservation(slices: Maps, maps: Maps) -> float:
    """Returns the share of neighbors that stay so in the maps."""
    measure = partial(neighborhood_preservation, n_neighbors=SHARE)
    return float(np.mean([*map(measure, slices, maps)]))


def noisy_digits(count: int | None = None) -> Dataset:
    """Returns digits under growing noise, up to a quarter of the pixels' range."""
    digits, rng = sources.digits()[0][:count], np.random.default_rng(0)
    widths = np.linspace(0, 4, 6)
    slices = [digits + rng.normal(scale=w, size=digits.shape) for w in widths]
    return Dataset(slices, relations=[], ids=[], titles=[])


DRAWN = {"slices": 10, "points": 1000, "seed": 0}
SEQUENCES: dict[str, Callable[[], Dataset]] = {
    "gaussians": partial(sequences.gaussians, clusters=10, **DRAWN),
    "walk": partial(sequences.walk, **DRAWN | {"points": 300}),
    "gapminder": sequences.gapminder,
    "noisy_digits": noisy_digits,
    # The more rows there are, the nearer lie the wrong ones.
    "few_noisy_digits": partial(noisy_digits, 600),
    "fashion_noise": partial(sequences.fashion_noise, **DRAWN),
    "network_states": partial(sequences.network_states, **DRAWN),
    "freedom": countries.freedom,
    # 31 seasons of batters, whom figures hardly tell.
    "seasons": partial(baseball, since=1990),
}
MEMBERS_CHANGE = ("freedom", "seasons")


def couple_sequence(name: str) -> list[Row]:
    """Couples one of the sequences, and compares the ways to hold it."""
    dataset = SEQUENCES[name]()
    members = dataset.ids if name in MEMBERS_CHANGE else None

    def read(seed: int) -> dict[str, Row]:
        rows, ids = thinned(dataset.slices, seed, members)
        listed = [i.tolist() for i in ids]
        mates = consecutive(listed, [*map(len, rows)])
        key = jax.random.key(seed)
        coupling, seconds = clocked(partial(aljax.couple, rows, key=key))
        ways = {"held by ids": aljax.fit(rows, listed, key=key).maps}
        ways |= held(rows, coupling, seed)
        lines = {"coupling": read_coupling(coupling, ids) | {"seconds": seconds}}
        for way, maps in ways.items():
            measures = {"mates apart": displacement(maps, mates)}
            lines[way] = measures | {"preservation": preservation(rows, maps)}
        return lines

    return over_seeds("read", read)


def moscot() -> list[Row]:
    """Couples by moscot, balanced as it comes and not, and by aljax.

    Raises:
        MissingPeerError: moscot is not installed.
    """
    if find_spec("moscot") is None:
        raise MissingPeerError("moscot is not installed; run: pip install moscot")
    names = "gaussians", "walk", "gapminder", "noisy_digits"
    ways: dict[str, Callable[[Maps], Sequence[csr_array]]] = {
        "aljax": lambda rows: matrices(aljax.couple(rows, key=jax.random.key(0))),
        "moscot": plans_of_moscot,
        f"moscot, tau {UNBALANCED}": partial(plans_of_moscot, tau=UNBALANCED),
    }

    def read(slices: Maps, seed: int) -> dict[str, Row]:
        rows, ids = thinned(slices, seed)
        lines = {}
        for way, plans_of in ways.items():
            plans, seconds = clocked(partial(plans_of, rows))
            steps = []
            for t, plan in enumerate(plans):
                unmatched = ~np.isin(ids[t], ids[t + 1])
                mass = {"mass without mate": plan.sum(axis=1)[unmatched].mean()}
                steps.append(recalled(plan, ids[t : t + 2]) | mass)
            lines[way] = means(steps) | {"seconds": seconds}
        return lines

    return [
        {"sequence": name} | line
        for name in names
        for line in over_seeds("coupled by", partial(read, SEQUENCES[name]().slices))
    ]


def plans_of_moscot(slices: Maps, *, tau: float = 1.0) -> list[csr_array]:
    """Returns `matrices` by moscot: rows have a mass of 1 where it is balanced."""
    import pandas as pd
    from anndata import AnnData
    from moscot.problems.time import TemporalProblem  # pyright: ignore[reportMissingImports]

    together = AnnData(np.vstack(slices))
    times = np.repeat(np.arange(len(slices)), [len(rows) for rows in slices])
    together.obs["time"] = pd.Categorical(times)
    together.obsm["data"] = np.vstack(slices)  # else it takes principal components
    problem = TemporalProblem(together).prepare(time_key="time", joint_attr="data")
    solved = problem.solve(tau_a=tau, tau_b=tau)
    steps = [solved[t, t + 1].solution.transport_matrix for t in range(len(slices) - 1)]
    return [csr_array(np.asarray(plan) * len(plan)) for plan in steps]


def strangers() -> list[Row]:
    """Couples two halves of the digits, in which nobody recurs."""
    digits, classes = sources.digits()

    def read(seed: int) -> dict[str, Row]:
        halves = np.array_split(np.random.default_rng(seed).permutation(len(digits)), 2)
        data, labels = ([rows[half] for half in halves] for rows in (digits, classes))
        coupling = aljax.couple(data, key=jax.random.key(seed))
        ways = {"alone": singles(data, seed)} | held(data, coupling, seed)
        mates = np.mean(np.concatenate(coupling.has_mate()[0]))
        return {
            name: {
                "accuracy across": across(maps, labels),
                "called mates": mates,
                "preservation": preservation(data, maps),
            }
            for name, maps in ways.items()
        }

    return over_seeds("maps", read)


def known() -> list[Row]:
    """Couples the even pixels of 600 digits with the odd ones, by digits known in both.

    Returns:
        How often the heaviest mate of another digit has its class.
    """
    digits, classes = sources.digits()

    def read(seed: int) -> dict[int, Row]:
        rng = np.random.default_rng(seed)
        chosen, order = rng.permutation(len(digits))[:600], rng.permutation(600)
        even, odd = digits[chosen, ::2], digits[chosen[order], 1::2]
        odd = np.pad(odd, ((0, 0), (0, 1)))  # so that the columns differ
        drawn, lines = rng.permutation(600), {}
        for n_known in (60, 180):
            rows = drawn[:n_known]
            pairs = {(0, 1): np.column_stack([rows, np.argsort(order)[rows]])}
            coupling = aljax.couple([even, odd], known=pairs, key=jax.random.key(seed))
            heaviest = matrices(coupling)[0].argmax(axis=1)
            is_right = classes[chosen] == classes[chosen[order]][heaviest]
            lines[n_known] = {"class": np.delete(is_right, rows).mean()}
        return lines

    return over_seeds("known of 600", read)


def across(maps: Maps, labels: Sequence[np.ndarray]) -> float:
    """Returns how well 10 nearest points of the first map tell the second's labels."""
    model = KNeighborsClassifier(10).fit(maps[0], labels[0])
    return float(model.score(maps[1], labels[1]))


def _clusters(points: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=3, size=(100, 50))[rng.integers(0, 100, points)]
    rows = (centers + rng.normal(size=(points, 50))).astype(np.float32)
    moved = rows + rng.normal(scale=0.1, size=rows.shape).astype(np.float32)
    return [rows, moved[rng.permutation(points)]]


def couple_clusters(points: int) -> Row:
    """Couples 100 normal clusters, cold, with themselves under noise."""
    pair = _clusters(points)
    before = peak_memory()
    _, seconds = clocked(lambda: aljax.couple(pair, key=jax.random.key(0)))
    memory = {"peak MiB": peak_memory(), "of which imports and data MiB": before}
    return {"rows": points, "seconds": seconds, **memory}


def speed() -> list[Row]:
    """Couples two slices of 50 columns in fresh processes."""
    return alone(couple_clusters, (1_000, 20_000, 100_000))


if __name__ == "__main__":
    cases = {name: partial(couple_sequence, name) for name in SEQUENCES}
    sys.exit(run_parts("coupling", strangers, known, moscot, speed, **cases))
