"""What makes a checkpoint whole: the sums of its files, and what it is of.

    {"content": {"of": ..., "versions": ..., "sums": {file: SHA-256}}, "sum": SHA-256}

It is written last, in one rename: where it is missing, or a sum is another, the
checkpoint is not whole, and the one before counts.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from aljax.checks import warn

MANIFEST = "manifest.json"
PATTERN = "epoch-" + "[0-9]" * 7
PACKAGES = ("jax", "jaxlib", "optax", "numpy")
SHOWN = 3  # differences that an error lists


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
