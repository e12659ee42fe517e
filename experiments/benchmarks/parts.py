"""Benchmarks made of parts: each gives rows, shown as a table and kept as JSON."""

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aljax.errors import nearest_name
from experiments.benchmarks.peers import MissingPeerError
from experiments.benchmarks.race import machine

Row = dict[str, Any]
RESULTS = Path("results/benchmarks")


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head)]
    lines += [
        [f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run_parts(
    name: str,
    parts: Sequence[Callable[[], Sequence[Row]]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the parts asked for on the command line (all of them where none is).

    Args:
        name: The module's name.
        parts: What there is to run, known by the functions' names.
        arguments: The command line; None for the process's own.
    """
    known = {part.__name__: part for part in parts}
    parser = argparse.ArgumentParser(prog=f"python -m experiments.benchmarks.{name}")
    parser.add_argument("parts", nargs="*", help=", ".join(known))
    asked = parser.parse_args(arguments).parts or [*known]
    for part in asked:
        if part not in known:
            parser.error(f"no part `{part}`: {nearest_name(part, [*known])}")
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {"machine": machine()}
    for part in asked:
        try:
            results[part] = known[part]()
        except MissingPeerError as missing:
            print(f"{part} left out: {missing}")
            continue
        print(f"\n{part}\n\n{table(results[part])}", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {path}")
    return 0
