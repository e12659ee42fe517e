"""What users give by mistake, drawn at random; and what they may get for it.

What is fine gives a correct result, and a mistake an `InputError` that names the
argument.  Anything else, a warning of NumPy's too, fails.
"""

import faulthandler
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, pairwise, product
from typing import Any

import hypothesis
import jaxtyping
import numpy as np
import pytest
import scipy.sparse
from hypothesis import strategies as st

from aljax.errors import InputError

TRIED: Counter[str] = Counter()  # examples of each property, for the count at the end
HANGING = 900  # seconds, after which an example ends the process with its traceback
LONG = hypothesis.settings().max_examples == 1000
FEATURES = 3


@pytest.fixture(autouse=True, scope="module")
def unchecked() -> Iterator[None]:
    """Without the runtime type checker: aljax itself has to refuse bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """How many examples a test tried, for the sum at the end of the session."""
    before = TRIED.total()
    yield
    record_property("examples", TRIED.total() - before)


def examples(ci: int) -> Callable[[Any], Any]:
    """So many examples, or 60 times as many in the profile `long`."""
    return hypothesis.settings(max_examples=60 * ci if LONG else ci)


@contextmanager
def trial(name: str) -> Iterator[None]:
    """Count an example, which may warn of mates, rows or edges that are not there."""
    TRIED[name] += 1
    faulthandler.dump_traceback_later(HANGING, exit=True)
    try:
        with warnings.catch_warnings():
            told = "no mates|is reversed|converge|reaches the rows|without an edge"
            told += "|hardly count|it seems that"
            warnings.filterwarnings("ignore", f".*({told})")
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def refused_for(name: str, call: Callable[[], Any]) -> None:
    """The call raises an error of an argument, or of one of its entries."""
    with pytest.raises(InputError) as raised:
        call()
    assert re.match(rf"{re.escape(name)}(?!\w)", raised.value.name), str(raised.value)


def refusal(call: Callable[[], Any], names: set[str], *, fine: bool = False) -> Any:
    """What the call returns; None for a ValueError that names one of its arguments.

    What is `fine` may not be refused.
    """
    if fine:
        return call()
    try:
        return call()
    except ValueError as error:
        said = {
            word
            for part in re.findall("`(.*?)`", str(error))
            for word in re.findall(r"[A-Za-z_]\w*", part)
        }
        if not said & names:
            raise AssertionError(f"it names no argument: {error}") from error
        return None


Maker = Callable[[np.random.Generator, int], Any]


def _columns(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.normal(size=(rows, FEATURES)).astype(np.float32)


FINE: dict[str, Maker] = {
    "cloud": _columns,
    "doubles": lambda rng, n: rng.normal(size=(n, FEATURES)),
    "half": lambda rng, n: _columns(rng, n).astype(np.float16),
    "integers": lambda rng, n: rng.integers(-3, 3, (n, FEATURES)),
    "large integers": lambda rng, n: rng.integers(-(2**62), 2**62, (n, FEATURES)),
    "bytes": lambda rng, n: rng.integers(0, 255, (n, FEATURES), dtype=np.uint8),
    "booleans": lambda rng, n: rng.random((n, FEATURES)) < 0.5,
    "two rows": lambda rng, n: _columns(rng, 2)[rng.integers(2, size=n)],
    "one row": lambda rng, n: np.repeat(_columns(rng, 1), n, axis=0),
    "zeros": lambda _, n: np.zeros((n, FEATURES)),
    "constant column": lambda rng, n: _columns(rng, n) * [1, 0, 1],
    "ranks": lambda rng, n: np.argsort(_columns(rng, n), axis=0).astype(float),
    "far away": lambda rng, n: _columns(rng, n) + np.float32(1e6),
    "heavy tails": lambda rng, n: rng.standard_cauchy((n, FEATURES)) ** 3,
    "all scales": lambda rng, n: rng.normal(size=(n, FEATURES)) * [1e-30, 1, 1e30],
    "an outlier": lambda rng, n: np.vstack([_columns(rng, n - 1), [[1e30] * FEATURES]]),
    "lists": lambda rng, n: _columns(rng, n).tolist(),
    "objects": lambda rng, n: _columns(rng, n).astype(object),
}


def _planted(value: Any) -> Maker:
    def make(rng: np.random.Generator, rows: int) -> Any:
        data = _columns(rng, rows).astype(object if value is None else type(value))
        data[rng.integers(rows), rng.integers(FEATURES)] = value
        return data

    return make


WRONG: dict[str, Maker] = {
    "nan": _planted(float("nan")),
    "infinity": _planted(float("inf")),
    "minus infinity": _planted(-float("inf")),
    "beyond float32": lambda rng, n: rng.normal(size=(n, FEATURES)) * 1e300,
    "none": _planted(None),
    "complex": lambda rng, n: _columns(rng, n) * 1j,
    "text": lambda rng, n: _columns(rng, n).astype(str),
    "dates": lambda rng, n: rng.integers(9, size=(n, FEATURES)).astype("M8[D]"),
    "one axis": lambda rng, n: rng.normal(size=n),
    "three axes": lambda rng, n: rng.normal(size=(n, FEATURES, 2)),
    "no rows": lambda *_: np.zeros((0, FEATURES)),
    "no columns": lambda _, n: np.zeros((n, 0)),
    "sparse": lambda rng, n: scipy.sparse.csr_matrix(_columns(rng, n)),
    "ragged": lambda rng, n: [*_columns(rng, n).tolist(), [1.0]],
    "a dict": lambda rng, n: dict(enumerate(_columns(rng, n))),
    "a word": lambda *_: "data",
    "nothing": lambda *_: None,
    "huge numbers": lambda _, n: [[10**400] * FEATURES] * n,
    "structured": lambda _, n: np.zeros(n, dtype=[("x", float), ("y", float)]),
}
seeds = st.integers(0, 2**32 - 1)
scales = st.integers(-30, 30).map(lambda power: 10.0**power)


@st.composite
def data(draw: Any, rows: int, *, wrong: bool = True) -> Any:
    """One slice: most often of a kind that is fine, at any scale."""
    refused = wrong and draw(st.integers(0, 11)) == 11
    kinds = WRONG if refused else FINE
    name = draw(st.sampled_from([*kinds]))
    rng = np.random.default_rng(draw(seeds))
    made = kinds[name](rng, max(rows, 1))
    if refused or name not in ("cloud", "doubles", "two rows", "constant column"):
        return made
    return made * np.asarray(draw(scales), made.dtype)


# No slice can be made of these, whoever asks.
HOPELESS = sorted({*WRONG} - {"sparse", "no rows"})


@st.composite
def hopeless(draw: Any, rows: int) -> Any:
    """Data that nobody takes."""
    kind = draw(st.sampled_from(HOPELESS))
    return WRONG[kind](np.random.default_rng(draw(seeds)), max(rows, 1))


ODD_ROWS = st.one_of(
    st.sampled_from([-1, 2**31, 2**63, 2**70, -(2**70), 1.5, 1.0, True, None, "0"]),
    st.just(float("nan")),
)


@st.composite
def dicts(draw: Any, before: int, after: int, *, wrong: bool = True) -> Any:
    """Rows to rows, one to one; now and then, if `wrong`, a row that is none."""
    rng = np.random.default_rng(draw(seeds))
    count = draw(st.integers(0, min(before, after)))
    rows = rng.choice(before, count, replace=False).tolist()
    others = rng.choice(after, count, replace=False).tolist()
    made: dict[Any, Any] = dict(zip(rows, others, strict=True))
    match draw(st.integers(0 if wrong else 4, 19)):
        case 0:
            made[draw(ODD_ROWS)] = 0
        case 1:
            made[0] = draw(ODD_ROWS)
        case 2 | 3:
            return draw(st.sampled_from([None, [], "ab", 3, [(0, 0)], np.eye(2)]))
        case 4:
            made = {np.int64(row): np.int32(other) for row, other in made.items()}
    return made


MEMBERS = st.one_of(
    st.sampled_from([None, float("nan"), "a", "", 0, 1.0, (1, 2), [1], b"b", 2**70]),
    st.integers(0, 400),
)


@st.composite
def ids(draw: Any, rows: int, *, wrong: bool = True) -> Any:
    """For each row an id; now and then, if `wrong`, one twice, or of no use."""
    rng = np.random.default_rng(draw(seeds))
    made: list[Any] = rng.permutation(2 * rows)[:rows].tolist()
    match draw(st.integers(0 if wrong else 2, 11)):
        case 0 if rows:
            made[int(rng.integers(rows))] = draw(MEMBERS)
        case 1:
            return draw(st.sampled_from([made[:-1], [], None, "ab", 3, np.eye(2)]))
        case 2:
            return np.array(made)
        case 3:
            return [str(one) for one in made]
    return made


@st.composite
def pairs(draw: Any, sizes: list[int], *, wrong: bool = True) -> Any:
    """Explicit pairs of rows of any two slices, some with weights."""
    made: dict[Any, Any] = {}
    every = [*combinations(range(len(sizes)), 2)]
    if wrong:
        every = [*product(range(len(sizes)), repeat=2)]
    for s, t in draw(st.lists(st.sampled_from(every), max_size=2)) if every else []:
        rng = np.random.default_rng(draw(seeds))
        count = min(sizes[s], sizes[t])
        one = np.column_stack([rng.permutation(sizes[k])[:count] for k in (s, t)])
        match draw(st.integers(0 if wrong else 4, 15)):
            case 0:
                one = draw(data(count))
            case 1:
                one = one + draw(st.sampled_from([-1, 1, 2**40]))
            case 2:
                one = (one, draw(st.sampled_from([None, 1.0, [1.0], "a", one])))
            case 3:
                one = (one, np.full(count, draw(st.sampled_from([-1, np.nan, np.inf]))))
            case 4:
                one = (one, rng.random(count) * draw(scales))
        made[s, t] = one
    if wrong and draw(st.integers(0, 9)) == 0:
        made[
            draw(st.sampled_from([0, (0,), (0, 1, 2), (0, 9), (0, -1), ("a", 1)]))
        ] = []
    return made


@st.composite
def relations(draw: Any, sizes: list[int], *, wrong: bool = True) -> Any:
    """Relations in any of their forms, or, if `wrong`, in none."""
    match draw(st.integers(0 if wrong else 1, 19)):
        case 0:
            return draw(st.sampled_from([None, [], {}, "ab", 3, [None], [{}] * 9]))
        case 1 | 2 | 3 | 4:
            return draw(pairs(sizes, wrong=wrong))
        case 5 | 6 | 7 | 8:
            return [draw(ids(size, wrong=wrong)) for size in sizes]
    return [draw(dicts(*two, wrong=wrong)) for two in pairwise(sizes)]


@st.composite
def hopeless_relations(draw: Any, sizes: list[int]) -> Any:
    """Relations that no sequence of these sizes can have."""
    made: list[Any] = ["ab", 3, [{}] * 9, {0: 0}, {(0, 9): []}, {(0,): []}]
    if len(sizes) > 1:
        right: list[Any] = [{}] * (len(sizes) - 1)
        made += [None, [{sizes[0]: 0}, *right[1:]], [{-1: 0}, *right[1:]]]
        made += [[{0.5: 0}, *right[1:]], [[*range(n - 1)] for n in sizes]]
        made += [{(0, 1): [[0, sizes[1]]]}, {(0, 1): ([[0, 0]], [-1.0])}]
    return draw(st.sampled_from(made))


ODD = st.one_of(
    st.sampled_from([None, True, "1", "", "euclidean", (), [], [1, 2], {}, 1j, b"1"]),
    st.sampled_from([np.float32(0.5), np.int64(3), np.array(0.5), np.ones(2)]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 30),
)


def settings_of(config: type, odd: st.SearchStrategy[Any] = ODD) -> Any:
    """Some of a config's settings, by name, with values of any kind."""
    names = st.sampled_from([*config.__dataclass_fields__])  # pyright: ignore
    return st.dictionaries(names, odd, max_size=3)
