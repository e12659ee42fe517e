"""Runs one experiment: settings in, a folder of maps, measures, pictures out.

    python -m experiments.run experiment=digits_sequence
    python -m experiments.run --reproduce results/digits_sequence
    python -m experiments.run --help

What imports JAX is imported inside `main`, where Ctrl-C is already looked after.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.interrupts import Interrupts, Stopped

EXTRAS = ("hydra", "omegaconf", "yaml", "matplotlib", "filelock")
PARSER = argparse.ArgumentParser(
    "python -m experiments.run", add_help=False, allow_abbrev=False
)
PARSER.add_argument("overrides", nargs="*", metavar="name=value")
PARSER.add_argument("--config", type=Path, metavar="FILE")
PARSER.add_argument("--reproduce", type=Path, metavar="FOLDER")
PARSER.add_argument("-m", "--multirun", action="store_true")
PARSER.add_argument("-h", "--help", action="store_true")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit status: 0, 1 for input that is refused or a result that is not
        reproduced, 130 for Ctrl-C, 143 for SIGTERM.
    """
    words = sys.argv[1:] if arguments is None else arguments
    with Interrupts() as interrupts:
        try:
            return _main(words, interrupts)
        except KeyboardInterrupt as stopped:
            print(str(stopped) or "stopped; nothing was written.", file=sys.stderr)
            if isinstance(stopped, Stopped):
                from experiments.results.resume import command

                print(f"to go on with it:\n    {command(words)}", file=sys.stderr)
            return interrupts.exit_status()
        except BrokenPipeError:  # whoever read the output has left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in EXTRAS:
                raise
            remedy = "run: pip install -e '.[experiments]'"
            print(f"error: {error.name} is not installed; {remedy}", file=sys.stderr)
            return 1
        except ValueError as error:
            from aljax.errors import InputError

            if not isinstance(error, InputError):
                raise
            print(f"error: {error}", file=sys.stderr)
            return 1


def _main(arguments: Sequence[str], interrupts: Interrupts) -> int:
    options, extra = PARSER.parse_known_intermixed_args(arguments)  # -m stands anywhere
    modes = {"-m": options.multirun, "--reproduce": options.reproduce}
    modes["--config"] = options.config
    chosen = [name for name, value in modes.items() if value]
    from aljax.errors import InputError
    from experiments import composition
    from experiments.usage import usage

    if extra:
        expected = "name=value, --config FILE, --reproduce FOLDER, -m or --help"
        remedy = f"Settings have no dashes: {extra[0].lstrip('-')}."
        remedy = remedy if "=" in extra[0] else ""
        raise InputError(extra[0], "is not an option", expected, remedy)
    if len(chosen) > 1:
        got = f"and `{'` and `'.join(chosen[1:])}` are set"
        raise InputError(chosen[0], got, "one of them")
    if options.help:
        print(usage(options.overrides), flush=True)
        return 0
    if options.multirun:
        from experiments.tasks import multirun

        return multirun.launch(options.overrides, interrupts)
    if options.reproduce:
        from experiments.results import reproduce

        return reproduce.reproduce(options.reproduce, options.overrides, interrupts)
    from experiments.tasks.perform import perform

    composed = composition.compose(
        options.overrides, options.config or composition.CONFIG
    )
    interrupts.check()
    if composed.get("distributed"):
        from experiments.tasks import distributed

        distributed.perform(composed, interrupts)
        return 0
    perform(composed, interrupts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
