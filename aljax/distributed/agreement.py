"""Processes tell each other what they are about to do, before they do it together.

A program that differs among processes, or that one of them does not begin, hangs all.
So each publishes a statement, name by name, at JAX's coordination service, reads those
of the others, and all raise the same error where two differ:

    SCOPE/QUESTION/PROCESS -> text        SCOPE/failed/PROCESS -> why
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src.distributed import global_state

from aljax.checkpoints import versions
from aljax.distributed.meeting import identity
from aljax.errors import InputError

PACKAGE = Path(__file__).parents[1]
DIGITS = 16  # of a sum
LONGEST = 200  # letters of a value that is stated as it is
FAILED, HEARD = "failed", "heard"
POLL = 0.02  # seconds between two looks at the store
SLOWEST = 0.5  # seconds between them where others take long
SHOWN = 3  # differences that an error lists
PARTING = 5  # seconds for which process 0, who keeps the store, stays after a failure


class SharedError(InputError):
    """An error that all processes raise: they disagree, or one of them has failed."""


class Agreement:
    """The words that the processes exchange in one fit, or in one run."""

    def __init__(self, scope: str, check: Callable[[], Any] = lambda: None) -> None:
        """Begins to exchange words; a scope has the same name in all processes.

        Args:
            scope: A name that is used once.
            check: Called while others are waited for; what it raises ends that.
        """
        self.scope, self.check = f"aljax/{scope}", check
        self.process, self.count = identity()
        self._client: Any = global_state.client

    def answers(self, question: str, text: str) -> list[str]:
        """Returns the texts of all processes, in their order.

        Raises:
            SharedError: Another process failed meanwhile; it says which and why.
        """
        if self.count == 1:
            return [text]
        self.put(question, text)
        pause = POLL
        while True:
            texts = self.said()
            names = [f"{question}/{process}" for process in range(self.count)]
            if all(name in texts for name in names):
                return [texts[name] for name in names]
            self.check_failed(texts)
            self.check()
            time.sleep(pause)
            pause = min(1.2 * pause, SLOWEST)

    def same(self, question: str, statement: Mapping[str, Any]) -> None:
        """Checks that all processes state the same.

        Raises:
            SharedError: Some do not; it has the names, the processes and their values.
        """
        stated_here = {name: stated(value) for name, value in statement.items()}
        statements = [*map(json.loads, self.answers(question, json.dumps(stated_here)))]
        differing = [*differences(statements)]
        if differing:
            (name, got), *others = differing
            more = [f"`{name}` {got}" for name, got in others[: SHOWN - 1]]
            rest = [f"and {len(others) + 1 - SHOWN} more"] * (len(others) >= SHOWN)
            got = "; ".join([got, *more, *rest])
            raise self._shared(name, got, "the same in all processes")

    @contextmanager
    def together(self, question: str) -> Iterator[None]:
        """Lets all processes know how a block ends that each does for itself.

        Raises:
            SharedError: The block failed in another process; it says which and why.
        """
        try:
            yield
        except SharedError:
            raise
        except Exception as error:
            if self.count > 1:
                self.fail(str(error))
            raise
        self.answers(question, "")

    def fail(self, why: str) -> None:
        """Tells the others that this process ends, and why."""
        self.put(FAILED, why)
        self.part()

    def part(self) -> None:
        """Lets the others hear of a failure before process 0 ends, and the store."""
        end = time.monotonic() + PARTING * (self.process == 0)
        while time.monotonic() < end:
            names = [name.partition("/") for name in self.said()]
            heard = {process for place, _, process in names if place in (FAILED, HEARD)}
            if len(heard - {"0"}) == self.count - 1:
                break
            time.sleep(POLL)

    def check_failed(self, texts: Mapping[str, str]) -> None:
        """Raises if another process has said that it failed."""
        for process in range(self.count):
            why = texts.get(f"{FAILED}/{process}")
            if why is not None and process != self.process:
                got = f"has one, process {process}, that ended: {why.rstrip('.')}"
                raise self._shared("processes", got, "all to go on to the end")

    def heard(self, process: int, texts: Mapping[str, str]) -> bool:
        """Tells if a process has ended in an error that all raise."""
        return f"{HEARD}/{process}" in texts

    def _shared(self, *parts: str) -> SharedError:
        self.put(HEARD, "")
        self.part()
        return SharedError(*parts)

    def said(self) -> dict[str, str]:
        """Returns everything that was said in this scope."""
        pairs = self._client.key_value_dir_get(f"{self.scope}/")
        return {name[len(self.scope) + 1 :]: text for name, text in pairs}

    def put(self, question: str, text: str) -> None:
        """Says something, in place of what this process said to the question before."""
        place = f"{self.scope}/{question}/{self.process}"
        self._client.key_value_set(place, text, allow_overwrite=True)


def differences(statements: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields names whose values differ, and who stated which."""
    for name in dict.fromkeys(name for statement in statements for name in statement):
        processes: dict[str, list[str]] = {}
        for process, statement in enumerate(statements):
            processes.setdefault(statement.get(name, "not stated"), []).append(
                str(process)
            )
        if len(processes) > 1:
            parts = [
                f"{value} in process{'es' * (len(numbers) > 1)} {', '.join(numbers)}"
                for value, numbers in processes.items()
            ]
            yield name, "is " + ", ".join(parts)


def setup_here() -> dict[str, str]:
    """Returns what a layout depends on beside its arguments, as this process has it.

    That is a digest of aljax's code, versions, and devices, such as "2 x cpu".
    """
    code = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        code.update(file.read_bytes())
    kinds = Counter(device.device_kind for device in jax.local_devices())
    devices = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    aljax = f"of code {code.hexdigest()[:DIGITS]}"
    return {"aljax": aljax, **versions(), "devices": devices}


def statement_of(**sections: Any) -> dict[str, str]:
    """Returns the fields of dataclasses by name, such as "graph.n_neighbors"."""
    return {
        f"{section}.{name}": stated(value)
        for section, config in sections.items()
        for name, value in vars(config).items()
    }


def presence(value: Any) -> str:
    """Tells if an argument is there, whose value is a process's own."""
    return "not given" if value is None else "given"


def stated(value: Any) -> str:
    """Returns a setting in words that are the same in every process."""
    text = _text(value)
    is_short = len(text) <= LONGEST and not isinstance(value, np.ndarray)
    return text if is_short else summed(value)


def summed(value: Any) -> str:
    """Returns a few words for what is too long to be stated."""
    length = f"{len(value)} of " if isinstance(value, Sized) else "of "
    return f"{length}sum {digest(value)[:DIGITS]}"


def digest(value: Any) -> str:
    """Returns the start of a SHA-256 of an array, or lists and dicts of such."""
    total = hashlib.sha256()
    if isinstance(value, Mapping):
        value = [[*value], [*value.values()]]
    try:
        array = np.asarray(value)
    except ValueError:  # parts of several lengths
        array = np.array(None)
    if array.dtype.kind not in "OT":
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    elif isinstance(value, Iterable):
        total.update("".join(map(digest, value)).encode())
    else:
        total.update(_text(value).encode())
    return total.hexdigest()


def _text(value: Any) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))  # a function, by its name
