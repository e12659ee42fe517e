"""One run: settings in, a folder of maps, measures and pictures out.

    python -m experiments.run experiment=digits_sequence
    python -m experiments.run --reproduce results/digits_sequence
    python -m experiments.run --help

What imports JAX is imported inside `main`, where Ctrl-C is already looked after.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from experiments.interrupts import Interrupts, Stopped

if TYPE_CHECKING:
    from experiments.settings import RunSettings


EXTRAS = ("hydra", "omegaconf", "yaml", "matplotlib")  # of the extra `experiments`
# Each is a module of `experiments` with a function `run`.
TASKS = {
    "fit": "run",
    "sweep": "sweeps",
    "feature_weights": "feature_weights",
    "encoder": "encoder",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 for input that is refused or a result that is not
        reproduced, 130 for Ctrl-C, 143 for SIGTERM.
    """
    given = sys.argv[1:] if arguments is None else arguments
    with Interrupts() as interrupts, warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _main(given, interrupts)
        except KeyboardInterrupt as stopped:
            print(str(stopped) or "stopped; nothing was written.", file=sys.stderr)
            if isinstance(stopped, Stopped):
                from experiments.resume import command

                print(f"to go on with it:\n    {command(given)}", file=sys.stderr)
            return interrupts.exit_status()
        except BrokenPipeError:  # whoever read the output has left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in EXTRAS:
                raise
            print(
                f"error: {error.name} is not installed; run: pip install -e "
                "'.[experiments]'",
                file=sys.stderr,
            )
            return 1
        except ValueError as error:
            if not _is_refusal(error):
                raise
            print(f"error: {error}", file=sys.stderr)
            return 1


def _main(arguments: Sequence[str], interrupts: Interrupts) -> int:
    given = _parser().parse_args(arguments)
    modes = {"-m": given.multirun, "--reproduce": given.reproduce}
    asked = [name for name, value in modes.items() if value]
    asked += ["--config"] if given.config else []
    if len(asked) > 1:
        raise ValueError(f"`{'` and `'.join(asked)}` were given; expected one of them.")
    from experiments import composition, settings
    from experiments.usage import usage

    if given.help:
        print(usage(), flush=True)
        return 0
    if given.multirun:
        from experiments import multirun

        multirun.launch(given.overrides)
        return 0
    if given.reproduce:
        from experiments import reproduce

        return reproduce.reproduce(given.reproduce, given.overrides, interrupts)
    from experiments import automatic

    composed = composition.compose(given.overrides, given.config or composition.CONFIG)
    interrupts.check()
    if composed.get("distributed"):
        from experiments import distributed

        distributed.perform(composed, interrupts)
        return 0
    composed = automatic.resolved(composed)
    perform(settings.build(composed), composed, interrupts)
    return 0


def perform(
    settings: RunSettings, composed: dict[str, Any], interrupts: Interrupts
) -> Path:
    """Do what `task` names, and return the folder with the results.

    Raises:
        ValueError: There is no such task, or what the task refuses.
    """
    keep_compiled(settings.compilation_cache)
    name = settings.task["name"]
    if name not in TASKS:
        from aljax.errors import nearest_name

        hint = nearest_name(str(name), [*TASKS])
        raise ValueError(f"`task.name` is {name!r}, which is no task: {hint}")
    if name != "fit" and settings.devices is not None:
        raise ValueError(
            f"`devices` is {settings.devices}, but task {name} runs on one; expected "
            "null there. Devices share a fit (task.name=fit)."
        )
    if name == "fit":
        from experiments.settings import check_options

        check_options(settings.task, required=())
        return run(settings, composed, interrupts)
    module = importlib.import_module(f"experiments.{TASKS[name]}")
    return module.run(settings, composed, interrupts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m experiments.run", add_help=False, allow_abbrev=False
    )
    parser.add_argument("overrides", nargs="*", metavar="name=value")
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--reproduce", type=Path, metavar="FOLDER")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    return parser


def _is_refusal(error: ValueError) -> bool:
    """Whether an error is this project's word on the input, and no mishap inside."""
    module, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return module.partition(".")[0] in ("aljax", "experiments", "__main__")


def _show_warning(message: Warning | str, *_: Any) -> None:
    tqdm.write(f"warning: {message}", file=sys.stderr)  # above the bar


def run(
    settings: RunSettings, composed: dict[str, Any], interrupts: Interrupts
) -> Path:
    """Load, fit, measure, draw and write.

    Args:
        settings: All that decides the run.
        composed: The same as it is kept in `config.yaml`.
        interrupts: Asked between the stages.

    Returns:
        The folder with the results.

    Raises:
        ValueError: Data or settings that the sources or the library refuse.
    """
    from experiments import datasets, inverse_pictures, report, results, resume
    from experiments.dataset import related_by_ids, titled
    from experiments.fit import fit
    from experiments.watch import CompileClock

    if settings.motion:
        results.check_motion()
    seconds: dict[str, float] = {}
    clock = CompileClock()
    with ExitStack() as stack:
        folder = stack.enter_context(results.folder_beside(settings.results))
        with stage("load", seconds, interrupts):
            dataset = datasets.load(**settings.data)
            dataset = titled(dataset, settings.graph, settings.layout)
            dataset = related_by_ids(dataset) if settings.by_ids else dataset
        if settings.inverse is not None:
            columns = [one.shape[1] for one in dataset.slices]
            inverse_pictures.check_images(columns, settings.layout.n_components)
        print(f"{settings.name}: {report.summary(dataset)}", flush=True)
        kept = stack.enter_context(resume.checkpoints(settings, dataset))
        with stage("fit", seconds, interrupts):
            embedding = fit(dataset, settings, interrupts, kept)
        with stage("measure", seconds, interrupts):
            measures = report.measure(dataset, embedding)
        print(f"\n{report.table(dataset, measures)}\n")
        with stage("draw", seconds, interrupts):
            results.draw(folder, settings, dataset, embedding)
        results.write_arrays(folder, dataset, embedding)
        seconds["of which compilation"] = clock.seconds
        record = report.record(
            dataset,
            embedding,
            measures,
            name=settings.name,
            seed=settings.seed,
            seconds=seconds,
        )
        results.write_texts(folder, composed | {"resume": False}, record)
        interrupts.check()
        written = results.publish(folder, settings.name)
    print(results.overview(written))
    return written


@contextmanager
def stage(
    name: str, seconds: dict[str, float], interrupts: Interrupts
) -> Iterator[None]:
    """Write down how long a stage takes, and stop after it where that was asked."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
    interrupts.check()


def keep_compiled(folder: Path | None) -> None:
    """Let JAX keep what it compiles, however small, for the next run."""
    import jax

    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(f"`compilation_cache` is not kept: {error}", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


if __name__ == "__main__":
    sys.exit(main())
