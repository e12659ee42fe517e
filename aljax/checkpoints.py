"""A layout that is kept while it runs, so that whatever stops it costs little.

    folder/epoch_0000140/    what orbax wrote: the LayoutState, and what it is of

The problem is not kept: it is made again from the same data, and its digest says
whether it is the same.  Arrays are kept without padding, so a layout that one device
began can go on on several.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aljax.config import number
from aljax.errors import InputError, read_path, warn
from aljax.keys import as_keys, as_numbers
from aljax.layout.optimize import LayoutState
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.spaces import Space

ROOM = 2**20  # bytes that orbax writes beside the arrays, and some more
PATTERN = "epoch_" + "[0-9]" * 7
UNDER_WAY = "_collect", "_latest", "_manager", "_writing"
PACKAGES = ("jax", "jaxlib", "optax", "numpy")  # that a layout's bits depend on
BY_PROCESS = ("params", "problem", "processes", "start")
SHOWN = 3  # differences that an error lists


class Checkpoints:
    """A folder in which a layout is kept while it runs.

    The newest checkpoint and the one before are kept.  They are written beside the
    layout; a layout that ends by an exception is kept as far as it came.
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
        """Checks the folder; nothing is written yet.

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
            InputError: If a number is out of range, the folder has checkpoints that are
                not to be resumed or of version 0.1, or orbax-checkpoint is not
                installed.
        """
        number(1, whole=True, optional=True)("epochs", epochs)
        number(0, open_low=True, optional=True)("seconds", seconds)
        self.folder = read_path(folder, "folder")
        if find_spec("orbax") is None:
            got, remedy = "needs orbax-checkpoint", "pip install 'aljax[checkpoints]'."
            raise InputError("folder", got, "it to be installed", f"Run: {remedy}")
        old = any(self.folder.glob(PATTERN.replace("_", "-")))
        if old or (any(self.folder.glob(PATTERN)) and not resume):
            got = f"is {folder}, which holds checkpoints" + " of aljax 0.1" * old
            expected = "another folder" if old else "resume=True, or another folder"
            raise InputError("folder", got, expected)
        self.epochs, self.seconds, self.resume = epochs, seconds, resume
        self.about = dict(about or {})
        self.last: Path | None = None  # the newest that is whole
        self._layout: dict[str, str] = {}
        self._collect: Any = None
        self._latest: LayoutState | None = None
        self._kept = (-1, time.monotonic())  # the last epoch, and when
        self._manager: Any = None
        self._writing: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled: what is under way stays in this process."""
        return vars(self) | dict.fromkeys(UNDER_WAY)

    def begin(
        self,
        problem: AlignedProblem,
        params: LayoutParams,
        state: LayoutState,
        *,
        key: jax.Array,
        n_shifts: int,
        collect: Callable[[LayoutState], LayoutState],
    ) -> LayoutState:
        """Returns `state`, or that of the newest whole checkpoint.

        Args:
            problem: Without the padding that a mesh needs; so are the others.
            params: The settings.
            state: The one to start from.
            key: The run's key.
            n_shifts: Shifts that estimate the repulsion.
            collect: Takes the padding off states that `keep` is given.

        Raises:
            InputError: If the checkpoint is of another layout.
        """
        self._collect = collect
        about = about_run(problem, params, state, key=key, n_shifts=n_shifts)
        return self.go_on(state, about)

    def go_on(self, state: LayoutState, identity: Mapping[str, str]) -> LayoutState:
        """Returns `state`, or that of the newest checkpoint of the same `identity`."""
        self._layout = {**self.about, **identity}
        resumed = newest(self.folder) if self.resume else None
        if resumed is not None:
            check_same(resumed, self._layout)
            self.last = resumed.path
            state = unpacked(resumed.state, state)
        self._latest = None  # whatever was kept of another layout
        self._kept = (int(state.epoch), time.monotonic())
        return state

    def keep(self, state: LayoutState) -> None:
        """Remembers the state, and writes it if it is time and nothing is under way."""
        self._latest = state
        if self.is_due(int(state.epoch)):
            self.write(state)

    def write(self, state: LayoutState) -> None:
        """Begins to write a state when the one before is written."""
        self._latest = state
        self._settle()
        self._write(state)

    def is_due(self, epoch: int) -> bool:
        """Tells if it is time to write the state of an epoch."""
        kept_epoch, since = self._kept
        due = self.epochs is not None and epoch - kept_epoch >= self.epochs
        late = self.seconds is not None and time.monotonic() - since >= self.seconds
        idle = self._writing is None or not self._manager.is_saving_in_progress()
        return (due or late) and idle

    def save(self) -> Path | None:
        """Writes the latest state, waits for it, and returns the newest whole one."""
        self._settle()
        if self._latest is not None and int(self._latest.epoch) != self._kept[0]:
            self._write(self._latest)
            self._settle()
        return self.last

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.save()
        self._settle()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _write(self, state: LayoutState) -> None:
        """Begins to write a state; orbax goes on in the background."""
        state = self._collect(state) if self._collect else state
        if not bool(jnp.isfinite(state.maps).all()):
            return  # nothing to go on from
        self._kept = (epoch := int(state.epoch), time.monotonic())
        packed = packed_of(state)
        content = {"of": self._layout, "versions": versions(), "state": _digest(packed)}
        description = {"content": content, "sum": _digest(_text(content))}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if free < packed.nbytes + ROOM:  # orbax would say so in the middle of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._manager = self._manager or _manager(self.folder)
            with _quiet() as orbax:
                for step in self._manager.all_steps():
                    if step >= epoch:  # damaged, or of the layout before
                        self._manager.delete(step)
                args = orbax.args.Composite(
                    state=orbax.args.StandardSave({"state": packed}),
                    about=orbax.args.JsonSave(description),
                )
                self._manager.save(epoch, args=args, force=True)
            self._writing = self.folder / f"epoch_{epoch:07d}"
        except Exception as error:
            self._lament(error)

    def _settle(self) -> None:
        """Waits for what is being written; a failure is a warning, and no more."""
        writing, self._writing = self._writing, None
        if writing is not None:
            try:
                with _quiet():
                    self._manager.wait_until_finished()
                self.last = writing
            except Exception as error:
                self._lament(error)

    def _lament(self, error: Exception) -> None:
        self._kept = (-1, self._kept[1])
        self._manager = None
        with suppress(Exception):  # a new one removes halves: the disk may be full
            _manager(self.folder).close()
        warn(
            f"a checkpoint cannot be written to {self.folder} ({_reason(error)}); the "
            f"layout goes on, and the newest whole one is {self.last}.",
        )


@contextmanager
def _quiet() -> Iterator[Any]:
    """Yields orbax (half a second to import), whose log says again what it raises."""

    def is_anothers(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    logger = logging.getLogger("absl")
    logger.addFilter(is_anothers)
    try:
        import orbax.checkpoint

        yield orbax.checkpoint
    finally:
        logger.removeFilter(is_anothers)


def _manager(folder: Path, **options: Any) -> Any:
    """Returns what keeps the two newest checkpoints of a folder, which is there."""
    with _quiet() as orbax:
        process = jax.process_index()
        among = {process} if jax.process_count() > 1 else None  # it waits for no other
        alone = orbax.options.MultiprocessingOptions(process, active_processes=among)
        chosen = orbax.CheckpointManagerOptions(
            step_prefix="epoch",
            step_format_fixed_length=7,
            save_root_metadata=False,
            multiprocessing_options=alone,
            create=False,  # as it has to be then
            **(options or {"max_to_keep": 2, "cleanup_tmp_directories": True}),
        )
        return orbax.CheckpointManager(folder.absolute(), options=chosen)


def _reason(error: Exception) -> str:
    """Says in a few words why something failed."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:  # tensorstore's, at the end of a page of paths
        return os.strerror(int(code[1]))
    return f"{type(error).__name__}: {str(error)[:100]}"


def packed_of(state: LayoutState) -> np.ndarray:
    """Returns the bytes of all arrays: one that is damaged leaves no others behind."""
    leaves = map(np.asarray, map(as_numbers, jax.tree.leaves(state)))
    return np.concatenate([np.ravel(leaf).view(np.uint8) for leaf in leaves])


def unpacked(packed: np.ndarray, state: LayoutState) -> LayoutState:
    """Returns the state of these bytes, of the shapes of another."""
    leaves, structure = jax.tree.flatten(state)
    plain = [*map(as_numbers, leaves)]
    all_bytes = np.split(packed, np.cumsum([leaf.nbytes for leaf in plain])[:-1])
    pairs = zip(all_bytes, plain, strict=True)
    arrays = [bits.view(leaf.dtype).reshape(leaf.shape) for bits, leaf in pairs]
    return jax.tree.unflatten(structure, map(as_keys, map(jnp.asarray, arrays), leaves))


def about_run(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    *,
    key: jax.Array,
    n_shifts: int,
) -> dict[str, str]:
    """Returns all that a layout depends on, by name, as sums."""
    return {
        "key": str(np.asarray(jax.random.key_data(key)).ravel().tolist()),
        "n_epochs": str(int(state.n_epochs)),
        "n_shifts": str(n_shifts),
        "params": _digest(params) + _named(params.space),
        "problem": _digest(problem),
        "start": _digest(state),
    }


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in map(np.asarray, map(as_numbers, jax.tree.leaves(tree))):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]


def _named(space: Space) -> str:
    """Returns the name of a space, or its function's, which other processes have."""
    if space is None:
        return ""
    return f" {getattr(space[0], '__qualname__', space[0])} {space[1]}"


def _text(content: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(content, sort_keys=True).encode(), np.uint8)


class Whole(NamedTuple):
    """A checkpoint that is all there: what it is of, what wrote it, its arrays."""

    path: Path
    of: dict[str, str]
    versions: dict[str, str]
    state: np.ndarray


def newest(folder: Path) -> Whole | None:
    """Returns a folder's newest whole checkpoint; warns of damaged ones by path."""
    if not folder.is_dir():
        return None
    with _manager(folder, read_only=True) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            path = folder / f"epoch_{step:07d}"
            try:
                return _read(manager, path, step)
            except Exception as error:  # whatever the byte that was hit leads to
                warn(
                    f"{path} is not a whole checkpoint ({_reason(error)}); the one "
                    "before is taken, if there is one.",
                )
    return None


def _read(manager: Any, path: Path, step: int) -> Whole:
    with _quiet() as orbax:
        args = orbax.args
        readers = args.Composite(state=args.StandardRestore(), about=args.JsonRestore())
        restored = manager.restore(step, args=readers)
    content = restored.about["content"]
    if _digest(_text(content)) != restored.about["sum"]:
        raise ValueError("its description is altered")
    packed = restored.state["state"]
    if _digest(packed) != content["state"]:
        raise ValueError("its arrays are altered")
    return Whole(path, content["of"], content["versions"], packed)


def versions() -> dict[str, str]:
    """Returns the versions of the packages that a layout's bits depend on."""
    return {package: metadata.version(package) for package in PACKAGES}


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Lists what has another value now, by name."""
    return [
        f"`{name}` is {new.get(name, 'not given')} and was {old.get(name, 'not given')}"
        for name in {**new, **old}
        if new.get(name) != old.get(name)
    ]


def check_same(whole: Whole, identity: Mapping[str, str]) -> None:
    """Checks what a checkpoint is of, and warns of packages of other versions.

    An error says which data or settings are others, with both values.  What several
    processes make depends on how many these are.
    """
    if whole.of.get("processes") != identity.get("processes"):
        identity = {name: identity[name] for name in identity if name not in BY_PROCESS}
        whole = whole._replace(of={k: v for k, v in whole.of.items() if k in identity})
    if differing := differences(whole.of, identity):
        got = f"finds {whole.path}, which is of another layout: "
        expected = "the same data and settings, or another folder"
        raise InputError("resume", got + "; ".join(differing[:SHOWN]), expected)
    if differing := differences(whole.versions, versions()):
        warn(
            f"{whole.path} was written by other packages ({'; '.join(differing)}): the "
            "maps may differ from those of an unbroken run.",
        )
