"""Writes results as JSON and Markdown, with the machine that they were read on."""

import argparse
import csv
import importlib.metadata
import json
import math
import os
import platform
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path("results/benchmarks")
RIVALS = ("umap-learn", "manifolds-rs", "openTSNE")
PACKAGES = ("aljax", "jax", "jaxlib", "numpy", "scipy", "pynndescent", "numba")


def write_json(path: Path, record: Any, *, allow_nan: bool = True) -> None:
    """Writes a record, arrays included, into a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"allow_nan": allow_nan, "default": np.ndarray.tolist}
    text = json.dumps(record, indent=2, ensure_ascii=False, **options)
    path.write_text(text + "\n", encoding="utf-8")


def made_folder(text: str) -> Path:
    """Returns the folder of an option `--out`, which is made before hours of work."""
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{text} cannot be made ({error.strerror})"
        raise argparse.ArgumentTypeError(reason) from error
    return folder


def count(text: str) -> int:
    """Returns the number of an option such as `--seeds`, which is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def store(name: str, results: Mapping[str, Any], folder: Path = BENCHMARKS) -> None:
    """Writes what a benchmark measured, with the machine, and says where."""
    path = folder / f"{name}.json"
    write_json(path, {"machine": machine(), **results})
    print(f"\nwritten to {path}")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as a table, whose columns are the names of the first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=[*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def aligned(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as text in columns."""
    lines = [[*rows[0]], *([*map(cell, row.values())] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def cell(value: Any) -> str:
    """Returns a value as tables show it; None and NaN are "-"."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return "-" if value is None else str(value)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as a Markdown table; floats have four digits after the point."""
    head = [*rows[0]] if rows else []
    cells = [
        [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in line]
        for line in (head, ["---"] * len(head), *(row.values() for row in rows))
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Returns the version of each package, None where it is not installed."""
    installed: dict[str, str | None] = dict.fromkeys(packages)
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def processor() -> str | None:
    """Returns the processor's name, where the system tells: code depends on it."""
    try:
        listed = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or None
    names = re.findall(r"^model name\s*: (.*)$", listed, re.MULTILINE)
    return names[0] if names else None


def machine() -> dict[str, Any]:
    """Returns the machine and the versions that a figure was read with."""
    import jax

    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "versions": versions(PACKAGES + RIVALS),
        "date": time.strftime("%Y-%m-%d"),
    }


def drawn(points: int, most: int | None) -> np.ndarray | None:
    """Returns the rows that stand for all in a measure, None where all are measured."""
    if most is None or points <= most:
        return None
    return np.random.default_rng(0).choice(points, most, replace=False)


def mean(values: Iterable[float]) -> float:
    """Returns the mean of the values that are numbers, NaN if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else math.nan


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the mean of each column of a table."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
