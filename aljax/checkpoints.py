"""A layout that is kept while it runs, so that whatever stops it costs little.

    folder/epoch-0000140/                 what orbax wrote of the LayoutState
    folder/epoch-0000140/manifest.json    what makes it whole (`aljax.manifest`)

The problem is not kept: it is made again from the same data, and its own sum says
whether it is the same.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aljax.config import number
from aljax.errors import read_path, warn
from aljax.layout.optimize import LayoutState
from aljax.layout.problem import AlignedProblem, LayoutParams

ROOM = 2**20  # bytes that orbax writes beside the arrays, and some more


MANIFEST = "manifest.json"
PATTERN = "epoch-" + "[0-9]" * 7
PACKAGES = ("jax", "jaxlib", "optax", "numpy")
SHOWN = 3  # differences that an error lists


class Checkpoints:
    """A folder in which a layout is kept while it runs.

    Kept are the newest checkpoint and the one before.  Writing happens beside the
    layout; a layout that ended by an exception is kept as far as it came.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        epochs: int | None = None,
        seconds: float | None = None,
        resume: bool = False,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Check the folder; nothing is written yet.

        Args:
            folder: Where; made when it is first needed.
            epochs: A checkpoint every so many epochs (whole, at least 1), or None: at
                the end of the chunk, a 20th of all epochs, in which it is due.
            seconds: One every so many seconds (above 0), or None.  With neither, only
                a layout that is stopped is kept.
            resume: Whether to go on from the newest whole checkpoint that is there; a
                layout starts at epoch 0 where there is none.
            about: What decides the layout, by name, such as settings and the sum of
                the data: a checkpoint with other values is refused by that name.

        Raises:
            ValueError: A number out of range; a folder with checkpoints that are not
                to be resumed; orbax-checkpoint is not installed.
        """
        number(1, whole=True, optional=True)("epochs", epochs)
        number(0, open_low=True, optional=True)("seconds", seconds)
        if find_spec("orbax") is None:
            raise ValueError(
                "checkpoints need orbax-checkpoint, which is not installed; run: pip "
                "install 'aljax[checkpoints]'."
            )
        self.folder = read_path(folder, "folder")
        self.epochs, self.seconds, self.resume = epochs, seconds, resume
        self.about = dict(about or {})
        if not resume and any(self.folder.glob(PATTERN)):
            raise ValueError(
                f"`folder` is {folder}, which holds checkpoints; expected resume=True "
                "to go on from them, or another folder."
            )
        self.last: Path | None = None  # the newest that is whole
        self._of: dict[str, str] = {}
        self._latest: LayoutState | None = None
        self._kept = (-1, time.monotonic())  # the last epoch, and when
        self._writer: Any = None
        self._thread = _thread()
        self._sealing: Future[None] | None = None

    def begin(
        self,
        problem: AlignedProblem,
        params: LayoutParams,
        state: LayoutState,
        *,
        key: jax.Array,
        n_shifts: int,
    ) -> LayoutState:
        """The state to go on from: `state`, or that of the newest whole checkpoint.

        Raises:
            ValueError: The checkpoint is of another layout.
        """
        self._of = {
            **self.about,
            "key": str(np.asarray(jax.random.key_data(key)).ravel().tolist()),
            "n_epochs": str(int(state.n_epochs)),
            "n_shifts": str(n_shifts),
            "params": _digest(params),
            "problem": _digest(problem),
            "start": _digest(state),
        }
        found = newest(self.folder) if self.resume else None
        if found is not None:
            check_same(found, self._of)
            state = self._restore(found.path, state)
            self.last = found.path
        self._latest = None  # whatever was kept of another layout
        self._kept = (int(state.epoch), time.monotonic())
        return state

    def keep(self, state: LayoutState) -> None:
        """Remember the state, and write it if it is time and nothing is under way."""
        self._latest = state
        epoch, since = self._kept
        due = self.epochs is not None and int(state.epoch) - epoch >= self.epochs
        late = self.seconds is not None and time.monotonic() - since >= self.seconds
        if (due or late) and (self._sealing is None or self._sealing.done()):
            self._settle()
            self._write(state)

    def save(self) -> Path | None:
        """Write the latest state and wait for it; where the newest whole one is."""
        self._settle()
        if self._latest is not None and int(self._latest.epoch) != self._kept[0]:
            self._write(self._latest)
            self._settle()
        return self.last

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.save()
        self._settle()
        self._thread.shutdown()
        self._thread = _thread()  # for whoever enters again

    def _write(self, state: LayoutState) -> None:
        """Begin to write a state, which is sealed in the background."""
        if not bool(jnp.isfinite(state.maps).all()):
            return  # nothing to go on from
        epoch = int(state.epoch)
        path = self.folder / f"epoch-{epoch:07d}"
        self._kept = (epoch, time.monotonic())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _check_room(self.folder, state)
            saved = _orbax().args.StandardSave(_flat(state))
            # What is there already was damaged.
            self._orbax().save(path.absolute(), args=saved, force=True)
        except Exception as error:
            self._lament(error)
        else:
            self._sealing = self._thread.submit(self._seal, path)

    def _seal(self, path: Path) -> None:
        self._orbax().wait_until_finished()
        write_manifest(path, self._of)
        self.last = path
        _prune(self.folder, path)

    def _settle(self) -> None:
        """Wait for what is being written; a failure is a warning, and no more."""
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            try:
                sealing.result()
            except Exception as error:
                self._lament(error)

    def _lament(self, error: Exception) -> None:
        self._kept = (-1, self._kept[1])
        self._writer = None
        for half in self.folder.glob("epoch-*.orbax-checkpoint-tmp*"):
            shutil.rmtree(half, ignore_errors=True)  # the disk may be full
        warn(
            f"a checkpoint cannot be written to {self.folder} ({_reason(error)}); the "
            f"layout goes on, and the newest whole one is {self.last}.",
        )

    def _restore(self, path: Path, state: LayoutState) -> LayoutState:
        asked = _orbax().args.StandardRestore(_flat(state))
        found = self._orbax().restore(path.absolute(), args=asked)
        leaves = [found[name] for name in _flat(state)]
        return jax.tree.unflatten(jax.tree.structure(state), leaves)

    def _orbax(self) -> Any:
        if self._writer is None:
            orbax = _orbax()
            self._writer = orbax.AsyncCheckpointer(orbax.StandardCheckpointHandler())
        return self._writer


def _thread() -> ThreadPoolExecutor:
    """What seals checkpoints beside the layout; it starts when it is first needed."""
    return ThreadPoolExecutor(1, "checkpoints")


def _orbax() -> Any:
    """orbax-checkpoint, which takes half a second to import."""
    import orbax.checkpoint

    # What fails comes as an exception, too, and is said once.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return orbax.checkpoint


def _prune(folder: Path, path: Path) -> None:
    """Leave the newest and the one before it; later ones were damaged."""
    before = sorted(one for one in folder.glob(PATTERN) if one < path)[-1:]
    for one in folder.glob("epoch-*"):
        if one not in (path, *before) and one.is_dir():
            (one / MANIFEST).unlink(missing_ok=True)  # first: then it is not whole
            shutil.rmtree(one, ignore_errors=True)


def _check_room(folder: Path, state: LayoutState) -> None:
    """Fail before a write that would fail in the middle."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + ROOM
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _reason(error: Exception) -> str:
    """Why something cannot be written, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:  # tensorstore's, at the end of a page of paths
        return os.strerror(int(code[1]))
    return f"{type(error).__name__}: {str(error)[:100]}"


def _flat(state: LayoutState) -> dict[str, Any]:
    """A state's arrays by name."""
    name = partial(jax.tree_util.keystr, simple=True, separator=".")
    return {name(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in map(np.asarray, jax.tree.leaves(tree)):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]


class Whole(NamedTuple):
    """A checkpoint that is all there: where, what it is of, what wrote it."""

    path: Path
    of: dict[str, str]
    versions: dict[str, str]


def newest(folder: Path) -> Whole | None:
    """The newest whole checkpoint of a folder; a damaged one is warned of by path."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            return read_manifest(path)
        except ValueError as error:
            warn(
                f"{path} is no whole checkpoint ({error}); the one before is taken, if "
                "there is one.",
            )
    return None


def write_manifest(path: Path, of: Mapping[str, str]) -> None:
    """Seal a checkpoint: the sums of its files, what it is of, and their own sum."""
    content = {"of": dict(of), "versions": versions(), "sums": dict(_sums(path))}
    text = json.dumps({"content": content, "sum": _sum_of(content)}, indent=1)
    beside = path / f".{MANIFEST}"
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path / MANIFEST)


def read_manifest(path: Path) -> Whole:
    """What a checkpoint is of.

    Raises:
        ValueError: It is not whole; the message says what is missing or altered.
    """
    try:
        given = json.loads((path / MANIFEST).read_bytes())
        content = given["content"]
        if _sum_of(content) != given["sum"]:
            raise ValueError(f"{MANIFEST} is altered")
        listed, there = content["sums"], dict(_sums(path))
        for name in sorted({*listed, *there}):
            if listed.get(name) != there.get(name):
                raise ValueError(f"{name} is {'altered' if name in there else 'gone'}")
        return Whole(path, content["of"], content["versions"])
    except FileNotFoundError as error:
        raise ValueError(f"{MANIFEST} is missing: it was being written") from error
    except (OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} cannot be read: {error!r}") from error


def _sums(path: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name not in (MANIFEST, f".{MANIFEST}"):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            yield file.relative_to(path).as_posix(), digest


def _sum_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The packages that a layout's bits depend on."""
    return {package: metadata.version(package) for package in PACKAGES}


def differences(of: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has another value now, by name."""
    return [
        f"`{name}` is {now.get(name, 'not given')} and was {of.get(name, 'not given')}"
        for name in {**now, **of}
        if now.get(name) != of.get(name)
    ]


def check_same(found: Whole, of: Mapping[str, str]) -> None:
    """Refuse a checkpoint of something else.

    Raises:
        ValueError: It is of other data or settings, each named with both its values.

    Warns of packages of other versions.
    """
    differing = differences(found.of, of)
    if differing:
        raise ValueError(
            f"`resume` finds {found.path}, which is of another layout: "
            f"{'; '.join(differing[:SHOWN])}. Give the same data and settings, or "
            "another folder."
        )
    differing = differences(found.versions, versions())
    if differing:
        warn(
            f"{found.path} was written by other packages ({'; '.join(differing)}): the "
            "maps may differ from those of an unbroken run.",
        )
