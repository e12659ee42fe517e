"""Finds the layout of a run that was stopped, for the same run to go on from.

    results/NAME.checkpoints, NAME.checkpoints-2, ...

Each unfinished run has one such folder, and no two runs share one.  A finished run
leaves none.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout

from aljax import Checkpoints
from aljax.checkpoints import PATTERN, Whole, check_same, differences, newest
from experiments.data.dataset import Dataset, digest, digests
from experiments.interrupts import Stopped
from experiments.results.folder import LOCK, discard, held, made, numbered, sweep
from experiments.settings import CHECKPOINTS, RunSettings

DIGITS = 16  # of the sum of the data


@contextmanager
def checkpoints(settings: RunSettings, dataset: Dataset) -> Iterator[Checkpoints]:
    """Returns the folder of a run's checkpoints.

    Raises:
        Stopped: For KeyboardInterrupt, if there is something to go on from.
    """
    about = decides(settings, dataset)
    sweep(_left(settings), _is_useless)
    with ExitStack() as stack:
        latest = _unfinished(settings, about, stack) if settings.resume else []
        if latest:
            print(f"going on from {latest[0].path}", flush=True)
            folders = [kept.path.parent for kept in latest]
        else:
            if settings.resume:
                print("nothing to go on from: starting at epoch 0", flush=True)
            names = numbered(settings.results / f"{settings.name}.checkpoints")
            folders = [stack.enter_context(made(names))]
        kept = Checkpoints(
            folders[0],
            epochs=settings.checkpoint_epochs,
            seconds=settings.checkpoint_seconds,
            resume=bool(latest),
            about=about,
        )
        kept.last = latest[0].path if latest else None
        try:
            with kept:
                yield kept
        except KeyboardInterrupt:
            if kept.last is None:
                raise
            raise Stopped(f"stopped; the layout is kept in {kept.last}.") from None
        except BaseException:
            if kept.last is not None:
                note = f"the layout is kept in {kept.last}; resume=true goes on from it"
                print(note, file=sys.stderr)
            raise
        else:
            for folder in folders:
                discard(folder)
        finally:
            if not any(folders[0].glob(PATTERN)):
                shutil.rmtree(folders[0], ignore_errors=True)


def decides(settings: RunSettings, dataset: Dataset) -> dict[str, str]:
    """Returns all that a run's layout depends on, by name."""
    about = {"data": digest(dataset)[:DIGITS], "seed": str(settings.seed)}
    about["first"] = str(settings.first)
    for section, config in settings.configs.items():
        for name, value in vars(config).items():
            about[f"{section}.{name}"] = str(value)
    return about


def named(sums: Mapping[str, str]) -> dict[str, str]:
    """Returns digests of a dataset's parts by their names among all that decides."""
    return {f"data.{part}": digest for part, digest in sums.items()}


def others(
    decided: Mapping[str, str], settings: RunSettings, dataset: Dataset
) -> list[str]:
    """Lists what is another now; of the data which parts, as far as it was recorded."""
    current = decides(settings, dataset) | named(digests(dataset))
    current = {name: current[name] for name in current if name in decided}
    changed = [name for name in current if current[name] != decided[name]]
    parts = [name.removeprefix("data.") for name in changed if name.startswith("data.")]
    changes = [f"the data have other {', '.join(parts)}"] if parts else []
    kept = [name for name in changed if not parts or name.partition(".")[0] != "data"]
    recorded, current = (
        {name: values[name] for name in kept} for values in (decided, current)
    )
    return [*changes, *differences(recorded, current)]


def _left(settings: RunSettings) -> list[Path]:
    """Returns the folders that runs of this name keep their layouts in."""
    name = re.compile(re.escape(settings.name) + CHECKPOINTS)
    folders = sorted(settings.results.glob(f"{settings.name}.checkpoints*"))
    return [folder for folder in folders if name.fullmatch(folder.name)]


def _is_useless(folder: Path) -> bool:
    """Tells whether a folder has nothing but its lock and halves of checkpoints."""
    names = {file.name for file in folder.iterdir()} - {LOCK}
    halves = all(name.startswith("epoch") for name in names)
    return halves and not any(folder.glob(PATTERN))


def _unfinished(
    settings: RunSettings, about: dict[str, str], stack: ExitStack
) -> Sequence[Whole]:
    """Returns the checkpoints of this run, the farthest first."""
    ours: list[Whole] = []
    others: list[Whole] = []
    for folder in _left(settings):
        with ExitStack() as holding:
            try:
                holding.enter_context(held(folder))
            except Timeout:
                print(f"{folder} is in use by another run", flush=True)
                continue
            except FileNotFoundError:
                continue  # finished meanwhile
            manifest = newest(folder)
            if manifest is None:
                continue
            comparable = manifest._replace(
                of={k: manifest.of[k] for k in about if k in manifest.of}
            )
            if differences(comparable.of, about):
                others.append(comparable)
            else:
                ours.append(manifest)
                stack.enter_context(holding.pop_all())
    if others and not ours:
        check_same(others[0], about)
    return sorted(ours, key=lambda kept: kept.path.name, reverse=True)


def command(arguments: Sequence[str]) -> str:
    """Returns the command that goes on with what the arguments began."""
    again = [text for text in arguments if not text.startswith("resume=")]
    return shlex.join(["python", "-m", "experiments.run", *again, "resume=true"])
