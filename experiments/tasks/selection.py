"""`alignment.alignment_regularisation: auto`: the weight chosen before the run.

Also alone, on a data set with its default settings:

    python -m experiments.tasks.selection digits_sequence
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.stats
from jaxtyping import Float
from matplotlib.figure import Figure
from tqdm import tqdm

from aljax import AlignmentConfig
from aljax.plot.colors import PALETTE
from aljax.selection import WEIGHT, Selection, select_alignment
from experiments import composition, settings
from experiments.clocks import stage
from experiments.data import sources
from experiments.data.dataset import related_by_ids
from experiments.interrupts import Interrupts
from experiments.results.records import made_folder, write_json

AUTO = "auto"
CONFIDENCE = 0.95
FILES = {
    "selection.png": f"the weights that {AUTO} tried, and the one it chose",
    "selection.json": "the same in numbers",
}


def without_auto(composed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings with the default where the alignment's weight is `auto`."""
    if not _is_auto(composed):
        return dict(composed)
    return _weighed(composed, AlignmentConfig().alignment_regularisation)


def resolved(
    composed: Mapping[str, Any], interrupts: Interrupts
) -> tuple[settings.RunSettings, Selection | None]:
    """Returns the settings with a number where the alignment's weight was `auto`.

    And the curve that it was chosen on, for `write` to leave among the results.
    """
    built = settings.build(without_auto(composed))
    if not _is_auto(composed):
        return built, None
    with stage("load", {}, interrupts):
        loaded = sources.load(**built.data)
    dataset = related_by_ids(loaded) if built.by_ids else loaded
    problem = dataset.sweep(**built.configs)
    print(f"{built.name}: {WEIGHT} is chosen by mates that are hidden", flush=True)
    with tqdm(desc="layouts", leave=False) as line:

        def progress(count: int, total: int) -> None:
            interrupts.check()
            line.total = total
            line.update(count - line.n)

        key = jax.random.key(built.seed)
        selection = select_alignment(problem, key=key, progress=progress)
    print(f"{WEIGHT} {selection.why}", flush=True)
    sources.keep(built.data, loaded)
    return settings.build(_weighed(composed, selection.choice)), selection


def _is_auto(composed: Mapping[str, Any]) -> bool:
    section = composed.get("alignment")
    return isinstance(section, Mapping) and section.get(WEIGHT) == AUTO


def _weighed(composed: Mapping[str, Any], weight: float) -> dict[str, Any]:
    return {**composed, "alignment": {**composed["alignment"], WEIGHT: weight}}


def write(selection: Selection, path: Path, *, heading: str) -> None:
    """Writes the curve as a picture and as JSON."""
    write_json(path.with_name(f"{path.name}.json"), selection._asdict())
    curve(selection, heading=heading).savefig(
        path.with_name(f"{path.name}.png"), dpi=150
    )


def curve(selection: Selection, *, heading: str) -> Figure:
    """Draws hidden mates and trustworthiness over the weights."""
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    figure.suptitle(f"{heading}: {WEIGHT} {selection.choice:g} chosen")
    axes = figure.subplots(2, sharex=True)
    named = (
        ("displacement of\nhidden mates, radii", selection.hidden),
        ("trustworthiness,\n15 neighbors", selection.trustworthiness),
    )
    lines = (
        (selection.choice, {"color": "black", "label": "chosen"}),
        (
            selection.reference,
            {"color": "grey", "linestyle": ":", "label": "reference"},
        ),
    )
    for axis, color, (name, values) in zip(axes, PALETTE, named, strict=False):
        mean, half = interval(values)
        bars: dict[str, Any] = {"color": color, "marker": "o", "capsize": 3}
        axis.errorbar(selection.weights, mean, yerr=half, **bars)
        for weight, style in lines:
            axis.axvline(weight, linewidth=1, **style)
        axis.set(ylabel=name, xscale="log")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    over = f"bars: 95 % intervals over {selection.hidden.shape[1]} seeds"
    axes[1].set_xlabel(f"{WEIGHT} ({over})")
    return figure


def interval(
    values: Float[np.ndarray, "weights seeds"],
) -> tuple[Float[np.ndarray, "weights"], Float[np.ndarray, "weights"]]:
    """Returns the mean over seeds and half its 95 % interval (Student's t)."""
    seeds = values.shape[1]
    factor = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) / np.sqrt(seeds)
    return values.mean(axis=1), factor * values.std(axis=1, ddof=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Chooses on a data set, and says whether fresh seeds agree."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tasks.selection")
    parser.add_argument("data", help=", ".join(composition.choices()["data"]))
    parser.add_argument("overrides", nargs="*", metavar="name=value")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=made_folder, default=Path("results/selection"))
    options = parser.parse_args(arguments)
    overrides = [f"data={options.data}", *options.overrides]
    try:
        built = settings.build(composition.compose(overrides))
        dataset = sources.load(**built.data)
        dataset = related_by_ids(dataset) if built.by_ids else dataset
        problem, key = dataset.sweep(**built.configs), jax.random.key(built.seed)
        chosen = select_alignment(problem, key=key, n_seeds=options.seeds)
    except ValueError as error:
        parser.error(str(error))
    print(f"chosen: {chosen.why}")
    write(chosen, options.out / options.data, heading=options.data)
    # The same evidence once more, with seeds that had no part in the choice.
    same_weight = {"n_seeds": options.seeds, "weights": [chosen.choice]}
    fresh_key = jax.random.key(built.seed + 1)
    again = select_alignment(problem, key=fresh_key, **same_weight)
    for name in ("hidden", "trustworthiness"):
        mean, half = interval(getattr(again, name))
        for weight, value, width in zip(again.weights, mean, half, strict=True):
            print(f"fresh seeds, {name} at {weight:g}: {value:.4f} +- {width:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
