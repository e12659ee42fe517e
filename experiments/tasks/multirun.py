"""`-m`: several runs as separate jobs, by whatever launcher Hydra has.

    python -m experiments.run -m experiment=digits_sequence seed=0,1,2
    python -m experiments.run -m experiment=digits_sweep hydra/launcher=ray

Each job's settings are composed and checked here, before the first job runs, as those
of a single run are; Hydra gets them as a list, of which a job takes one by its number.
Jobs of several values leave a folder each, named by its values, and a summary of all;
those of a sweep lay one row out each, of which the sweep's table is made at the end.
"""

import itertools
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from aljax.errors import InputError
from experiments import composition, settings
from experiments.interrupts import Interrupts, Stopped
from experiments.results import contents, folder, records
from experiments.tasks import selection, tradeoff
from experiments.tasks.grid import expand
from experiments.tasks.perform import perform

LAUNCHERS = ("joblib", "ray", "submitit")  # each in an extra of its name
JOBS = "jobs"  # names the list of settings, its file and folder
# The jobs' own folder of results is all they write.
QUIET = (
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
    "hydra.output_subdir=null",
    "hydra.sweep.subdir=.",
)
FILES = {
    "summary.csv": "a line for each run: its folder, values and measures",
    "summary.png": "trustworthiness against displacement, a point a run",
}
Jobs = list[dict[str, Any]]


def launch(overrides: Sequence[str], interrupts: Interrupts) -> int:
    """Runs the jobs, gathers what they left, and returns the exit status."""
    hydras = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
    check_launcher(hydras)
    expanded = composition.expanded([t for t in overrides if t not in hydras])
    swept = [values for values, _ in expanded]
    jobs = [composition.compose(texts) for _, texts in expanded]
    built = [settings.build(selection.without_auto(job)) for job in jobs]
    if any(job.distributed for job in built):
        raise InputError("-m", "does not go with distributed=true", "one of them")
    if swept[0]:
        return _launch_runs(hydras, swept, jobs, built[0], interrupts)
    if built[0].task["name"] != "sweep":
        expected = "a sweep (experiment=digits_sweep), or several values, as seed=0,1,2"
        raise InputError("-m", "has a single job to run", expected)
    (composed,) = jobs
    composed = {**selection.resolved(composed, interrupts)[0].composed}
    task, results = composed["task"], built[0].results
    count = len(expand(task.get("grid")))
    rows = [{**composed, "task": {**task, "row": row}} for row in range(count)]
    jobs_folder = results / built[0].name / JOBS
    try:
        jobs_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise folder.unwritable(results, error) from error
    _list(jobs_folder, rows, results)
    try:
        status = _launch(hydras, jobs_folder, range(count), interrupts)
    except KeyboardInterrupt:
        stopped = "stopped; finished settings will not be run again."
        raise KeyboardInterrupt(stopped) from None
    if not status:
        perform(composed, interrupts)
    return status


def check_launcher(overrides: Sequence[str]) -> None:
    """Checks that the package of the launcher that is asked for is installed."""
    for text in overrides:
        name, _, launcher = text.lstrip("+").partition("=")
        package = launcher.partition("_")[0]
        if name != "hydra/launcher" or package not in LAUNCHERS:
            continue
        if optional_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
            got = f"is {launcher}, whose package is not installed"
            remedy = f"Run: pip install 'aljax[{package}]'."
            raise InputError(name, got, "a launcher that is", remedy)


def optional_spec(module: str) -> Any:
    """Finds a module within a package that may be missing, too."""
    try:
        return find_spec(module)
    except ModuleNotFoundError:
        return None


def _launch_runs(
    hydras: Sequence[str],
    swept: Sequence[Mapping[str, str]],
    jobs: Jobs,
    first: settings.RunSettings,
    interrupts: Interrupts,
) -> int:
    """Runs each combination of values in a folder of its own, and sums them up."""
    texts = [[f"{name}={value}" for name, value in row.items()] for row in swept]
    names = [folder.named(",".join(row)) for row in texts]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("-m", f"has {twice} twice", "runs that differ")
    beside = first.results / f"{first.name}-multirun"
    unresumed = {"resume": False}
    jobs = [job | unresumed | {"name": n} for job, n in zip(jobs, names, strict=True)]
    runs_folder = _folder(beside, jobs, resume=first.resume)
    todo = [row for row, name in enumerate(names) if not (runs_folder / name).exists()]
    print(f"{len(todo)} of {len(jobs)} runs to do in {runs_folder}{os.sep}", flush=True)
    resumed = [f"resume={str(first.resume).lower()}"]
    try:
        status = _launch([*hydras, *resumed], runs_folder / JOBS, todo, interrupts)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; the finished runs are in {runs_folder}.") from None
    missing = {row: n for row, n in enumerate(names) if not (runs_folder / n).exists()}
    for row, name in missing.items():
        reason = _reason(runs_folder, row)
        why = f": {reason.read_text()}" if reason.exists() else ""
        print(f"without results: {name}{why}", file=sys.stderr)
    _summarize(runs_folder, names, swept)
    return status or int(bool(missing))


def _folder(beside: Path, jobs: Jobs, *, resume: bool) -> Path:
    """Returns a new folder with the list of jobs, or the last that has this list."""
    taken = [*itertools.takewhile(Path.exists, folder.numbered(beside))]
    for path in reversed(taken) if resume else ():
        list_file = path / JOBS / f"{JOBS}.yaml"
        if list_file.exists() and _listed(OmegaConf.load(list_file))[JOBS] == jobs:
            return path
    for path in itertools.islice(folder.numbered(beside), len(taken), None):
        try:
            (path / JOBS).mkdir(parents=True)
        except OSError as error:
            if not (path / JOBS).is_dir():  # nor of a sweep that began meanwhile
                raise folder.unwritable(path, error) from error
        else:
            _list(path / JOBS, jobs, path)
            return path
    raise AssertionError("unreachable")


def _list(jobs_folder: Path, jobs: Jobs, results: Path) -> None:
    """Writes the jobs' settings, whole or not at all, for Hydra to read."""
    listed = {"job": None, "resume": False, "results": str(results.resolve())}
    beside = jobs_folder / f".{secrets.token_hex(4)}.yaml"
    OmegaConf.save(OmegaConf.create(listed | {JOBS: jobs}), beside)
    beside.replace(jobs_folder / f"{JOBS}.yaml")


def _reason(runs_folder: Path, row: int) -> Path:
    """Returns the file in which a job that was refused says why, wherever it ran."""
    return runs_folder / JOBS / f"{row}.txt"


def _listed(config: Any) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config))


def _launch(
    overrides: Sequence[str],
    jobs_folder: Path,
    rows: Sequence[int],
    interrupts: Interrupts,
) -> int:
    """Runs some of the jobs by Hydra, in a process of its own; returns its status."""
    if not rows:
        return 0
    command = [sys.executable, "-m", "experiments.tasks.multirun", "-m"]
    absolute = jobs_folder.resolve()  # jobs may start in another folder
    command += ["--config-dir", str(absolute), *QUIET]
    command += [f"hydra.sweep.dir={composition.spelled(str(absolute))}"]
    command += [f"job={','.join(map(str, rows))}", *overrides]
    # A group of its own: Ctrl-C is passed on, for amid imports it would leave a trace.
    with subprocess.Popen(command, process_group=0) as process:
        passed_on = False
        while process.poll() is None:
            if interrupts.seen is not None and not passed_on:
                process.terminate()
                passed_on = True
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
    interrupts.check()
    return process.returncode


def job(config: DictConfig) -> None:
    """Runs one job, perhaps in a process or on a machine of its own."""
    listed = _listed(config)
    shared = {name: listed[name] for name in ("resume", "results")}
    composed = listed[JOBS][listed["job"]] | shared
    with Interrupts() as interrupts:
        try:
            perform(composed, interrupts)
        except InputError as error:  # other values may do; of a sweep all rows count
            print(f"error: {error}", file=sys.stderr)
            if composed["task"].get("row") is not None:
                sys.exit(1)
            _reason(Path(listed["results"]), listed["job"]).write_text(str(error))
        except KeyboardInterrupt as stopped:
            print(stopped, end="\n" * bool(str(stopped)), file=sys.stderr)
            sys.exit(interrupts.exit_status())


def _summarize(
    runs_folder: Path, names: Sequence[str], swept: Sequence[Mapping[str, str]]
) -> None:
    """Prints and writes what the runs measured, as far as they are finished."""
    rows, varied = [], []
    for name, values in zip(names, swept, strict=True):
        record = runs_folder / name / "metrics.json"
        if record.exists():  # of a fit
            means = json.loads(record.read_text("utf-8"))["means"]
            rows.append({"folder": name, **values, **means})
            varied.append(values)
    if rows:
        print(f"\n{records.aligned(rows)}\n")
        records.write_csv(runs_folder / "summary.csv", rows)
        if all(row["trustworthiness"] and row["displacement"] for row in rows):
            figure = tradeoff.pareto(
                rows, {}, heading=runs_folder.name, settings=varied
            )
            figure.savefig(runs_folder / "summary.png", dpi=150)
    files = {f"{name}{os.sep}": "" for name in names}
    print(contents.overview(runs_folder, files | FILES))


if __name__ == "__main__":
    hydra.main(version_base="1.3", config_path=None, config_name=JOBS)(job)()
