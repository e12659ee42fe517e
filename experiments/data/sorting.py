"""Eight sorting algorithms, watched while they write.

Each is a generator over a list that it sorts in place; it yields after every write of
one value or exchange of two.

Source: Knuth (1998), "The art of computer programming" 3, chapter 5.
"""

from collections.abc import Callable, Iterator

import numpy as np

Sorting = Callable[[list[float]], Iterator[None]]


def snapshots(algorithm: Sorting, start: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` states of an array, evenly spaced from its start to its order."""
    array = start.tolist()
    states = [array.copy()]
    states += [array.copy() for _ in algorithm(array)]
    chosen = np.linspace(0, len(states) - 1, count).round().astype(int)
    return np.array(states)[chosen]


def bubble(array: list[float]) -> Iterator[None]:
    """Exchanges neighbors in the wrong order until there are none."""
    for end in range(len(array) - 1, 0, -1):
        for i in range(end):
            if array[i] > array[i + 1]:
                yield from _exchange(array, i, i + 1)


def cocktail(array: list[float]) -> Iterator[None]:
    """Sorts by bubbles, in both directions by turns."""
    low, high = 0, len(array) - 1
    while low < high:
        for i in (*range(low, high), *range(high - 2, low - 1, -1)):
            if array[i] > array[i + 1]:
                yield from _exchange(array, i, i + 1)
        low, high = low + 1, high - 1


def insertion(array: list[float]) -> Iterator[None]:
    """Carries each value back to its place among those before."""
    yield from _insert(array, 1)


def shell(array: list[float]) -> Iterator[None]:
    """Sorts by insertion at halved distances."""
    gap = len(array) // 2
    while gap:
        yield from _insert(array, gap)
        gap //= 2


def selection(array: list[float]) -> Iterator[None]:
    """Exchanges the smallest value left to the front."""
    for i in range(len(array) - 1):
        least = min(range(i, len(array)), key=array.__getitem__)
        if least != i:
            yield from _exchange(array, i, least)


def heap(array: list[float]) -> Iterator[None]:
    """Makes a heap, then takes the largest value off it again and again."""
    for root in range(len(array) // 2 - 1, -1, -1):
        yield from _sift(array, root, len(array))
    for end in range(len(array) - 1, 0, -1):
        yield from _exchange(array, 0, end)
        yield from _sift(array, 0, end)


def merge(array: list[float]) -> Iterator[None]:
    """Merges sorted runs of one value, of two, of four, ..."""
    width = 1
    while width < len(array):
        for low in range(0, len(array), 2 * width):
            run = sorted(array[low : low + 2 * width])
            for i, value in enumerate(run, start=low):
                array[i] = value
                yield
        width *= 2


def quick(array: list[float]) -> Iterator[None]:
    """Parts the values around the last one, then each part."""
    parts = [(0, len(array) - 1)]
    while parts:
        low, high = parts.pop()
        if low >= high:
            continue
        border = low
        for i in range(low, high):
            if array[i] < array[high]:
                if i != border:
                    yield from _exchange(array, i, border)
                border += 1
        yield from _exchange(array, border, high)
        parts += [(border + 1, high), (low, border - 1)]


def _exchange(array: list[float], i: int, j: int) -> Iterator[None]:
    array[i], array[j] = array[j], array[i]
    yield


def _insert(array: list[float], gap: int) -> Iterator[None]:
    for i in range(gap, len(array)):
        j = i
        while j >= gap and array[j - gap] > array[j]:
            yield from _exchange(array, j, j - gap)
            j -= gap


def _sift(array: list[float], root: int, end: int) -> Iterator[None]:
    while (child := 2 * root + 1) < end:
        if child + 1 < end and array[child + 1] > array[child]:
            child += 1
        if array[root] >= array[child]:
            return
        yield from _exchange(array, root, child)
        root = child


ALGORITHMS: dict[str, Sorting] = {
    sort.__name__: sort
    for sort in (bubble, cocktail, heap, insertion, merge, quick, selection, shell)
}
