"""One run: settings in, a folder of maps, measures and pictures out.

    python -m experiments.run experiment=digits_sequence
    python -m experiments.run --reproduce results/digits_sequence
    python -m experiments.run --help

What imports JAX is imported inside `main`, where Ctrl-C is already looked after.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.interrupts import Interrupts, Stopped

EXTRAS = ("hydra", "omegaconf", "yaml", "matplotlib")  # of the extra `experiments`


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
                from experiments.results.resume import command

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
        from experiments.tasks import multirun

        multirun.launch(given.overrides)
        return 0
    if given.reproduce:
        from experiments.results import reproduce

        return reproduce.reproduce(given.reproduce, given.overrides, interrupts)
    from experiments.tasks import selection
    from experiments.tasks.perform import perform

    composed = composition.compose(given.overrides, given.config or composition.CONFIG)
    interrupts.check()
    if composed.get("distributed"):
        from experiments.tasks import distributed

        distributed.perform(composed, interrupts)
        return 0
    composed = selection.resolved(composed)
    perform(settings.build(composed), composed, interrupts)
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
