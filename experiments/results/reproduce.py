"""`--reproduce FOLDER`: a result made again, and compared to the last bit.

    python -m experiments.run --reproduce results/digits_sequence

That of several processes is made by as many, each of which is told its process_id=I.
Data and settings are compared first; if they are others, nothing is run.  The versions,
the commit and the machine say what may be to blame where the bits are others.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aljax.checkpoints import differences
from aljax.errors import InputError
from experiments import composition
from experiments.clocks import stage
from experiments.data import sources
from experiments.data.archives import DAMAGE, read_npz, short
from experiments.data.dataset import SUM
from experiments.interrupts import Interrupts
from experiments.results import report, resume
from experiments.settings import BY_HAND, build

FILES = ("config.yaml", "metrics.json", "embedding.npz")


def reproduce(folder: Path, overrides: Sequence[str], interrupts: Interrupts) -> int:
    """Runs a result's settings again, beside it, and tells if the bits are the same.

    Args:
        folder: The result.
        overrides: For what does not decide the maps, as results=... or resume=true.
        interrupts: Asked between the stages.

    Returns:
        0 where all arrays are the same to the last bit, else 1.
    """
    from experiments.tasks import distributed
    from experiments.tasks.perform import perform

    folder = folder.parent if folder.name in FILES else folder
    for name in FILES:
        if not os.path.isfile(folder / name):
            inside = [f"{path.parent}" for path in sorted(folder.glob("*/config.yaml"))]
            remedy = f"Did you mean {inside[-1]}?" if inside else ""
            raise _refused(f"is {folder}, which has no {name}", remedy)
    decided, environment = _record(folder)
    _arrays(folder)  # before the time that a run takes
    composed = composition.compose(overrides, folder / "config.yaml")
    if not any(text.startswith("results=") for text in overrides):
        composed["results"] = str(folder.resolve().parent)
    if composed.get("distributed"):  # each process compares what it reads
        again = distributed.perform(composed, interrupts, decided)
        return 0 if again is None else _compare(folder, again, environment)
    composed |= dict.fromkeys(BY_HAND)
    others = _others(composed, decided, interrupts)
    if others:
        print(f"not run again, for {'; '.join(others)}.", file=sys.stderr)
        return 1
    print("the same data and settings.")
    return _compare(folder, perform(composed, interrupts), environment)


def _compare(folder: Path, again: Path, environment: Mapping[str, str]) -> int:
    """Tells if two results have the same bits, and what may be to blame if not."""
    current = _flat({"processes": jax.process_count(), **report.environment()})
    differing = "; ".join(differences(environment, current))
    different = [*differing_arrays(folder, again)]
    if not different:
        print(f"what else differs: {differing or 'nothing'}.")
        print(f"the same bits: {again} has every array of {folder}.")
        return 0
    print(f"other bits: {'; '.join(different)}.", file=sys.stderr)
    blame = differing or "nothing that was recorded"
    print(f"what else differs: {blame}.", file=sys.stderr)
    return 1


def _others(
    composed: dict[str, Any], decided: Mapping[str, str], interrupts: Interrupts
) -> list[str]:
    """Lists what decides the maps and is another now, as far as it was recorded."""
    from experiments.tasks.fit import described

    settings = build(composed)
    with stage("load", {}, interrupts):
        dataset = sources.load(**settings.data)
    sources.keep(settings.data, dataset)
    return resume.others(decided, settings, described(dataset, settings))


def differing_arrays(folder: Path, again: Path) -> list[str]:
    """Lists the arrays of two results that differ in a bit, and how far."""
    first, second = _arrays(folder), _arrays(again)
    words = [f"{name} is in one only" for name in sorted({*first} ^ {*second})]
    for name in sorted({*first} & {*second}):
        earlier, later = first[name], second[name]
        if earlier.dtype != later.dtype or earlier.shape != later.shape:
            words.append(f"{name} is {earlier.dtype}{earlier.shape}, {later.shape} now")
        elif earlier.tobytes() != later.tobytes():
            difference = (
                np.abs(earlier - later).max() if earlier.dtype.kind == "f" else "other"
            )
            words.append(f"{name} differs by up to {difference}")
    return words


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a result."""
    path = folder / "embedding.npz"
    try:
        return read_npz(path)
    except DAMAGE as error:
        got = f"is {folder}, whose {path.name} cannot be read ({short(error)})"
        raise _refused(got) from error


def _record(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Returns what decided the maps, and what else bits may depend on, by name."""
    try:
        metrics: dict[str, Any] = json.loads(
            (folder / "metrics.json").read_text("utf-8")
        )
        texts = {
            name: str(metrics[name]) for name in ("data", "seed") if name in metrics
        }
        decided = {name: text[: resume.DIGITS] for name, text in texts.items()}
        decided |= metrics.get("decided", {})
        decided |= resume.named(metrics.get("parts", {}))
        if not decided.get("data", SUM).startswith(SUM):  # summed up in another way
            decided.pop("data")
        return decided, _flat(metrics)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        got = f"is {folder}, whose metrics.json cannot be read ({error!r})"
        raise _refused(got) from error


def _flat(metrics: Mapping[str, Any]) -> dict[str, str]:
    flat = {"processes": metrics.get("processes", 1), "commit": metrics["commit"]}
    flat |= {**metrics["versions"], **metrics["machine"]}
    return {name: str(value) for name, value in flat.items()}


def _refused(got: str, remedy: str = "") -> InputError:
    expected = "a folder that a run left, as results/digits_sequence"
    return InputError("--reproduce", got, expected, remedy)
