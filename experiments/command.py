"""Ends a command by a line, not by a trace, where its input cannot be used."""

import sys
from collections.abc import Callable
from typing import NoReturn

from aljax.errors import InputError


class MissingPeerError(ImportError):
    """A rival that is not installed, with the command that installs it."""


def finish(main: Callable[[], int | None]) -> NoReturn:
    """Calls the function of a command, and ends this process with its exit status.

    The status is 1 where input is refused, a package is missing, or a file or folder
    cannot be read or written.
    """
    try:
        sys.exit(main())
    except (InputError, MissingPeerError, OSError) as error:
        sys.exit(f"error: {error}")
