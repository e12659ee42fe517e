"""The settings that spread a run over devices and processes, and their checks."""

import re
from collections.abc import Mapping
from typing import Any

# What configs of earlier versions lack.
SPREAD: dict[str, Any] = {
    "devices": None,
    "distributed": False,
    "coordinator": None,
    "processes": None,
    "process_id": None,
}


def check_spread(settings: Mapping[str, Any]) -> None:
    """Refuse what cannot be meant by `devices`, `distributed` and its address.

    Raises:
        ValueError: A type, a value, or settings that do not go together.
    """
    for name, least in (("devices", 1), ("processes", 1), ("process_id", 0)):
        value = settings[name]
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(
                f"`{name}` is {value!r}; expected a whole number of at least {least}, "
                "or null."
            )
    if not isinstance(settings["distributed"], bool):
        raise ValueError(
            f"`distributed` is {settings['distributed']!r}; expected true or false."
        )
    by_hand = ("coordinator", "processes", "process_id")
    given = [name for name in by_hand if settings[name] is not None]
    if given and not settings["distributed"]:
        raise ValueError(f"`{given[0]}` needs distributed=true, too.")
    if given and len(given) < len(by_hand):
        missing = next(name for name in by_hand if name not in given)
        raise ValueError(
            f"`{missing}` is null, but `{given[0]}` is given; expected all of "
            "coordinator=HOST:PORT processes=N process_id=I, or none of them where "
            "SLURM, Open MPI or Kubernetes says them."
        )
    if not given:
        return
    if not re.fullmatch(r".+:\d{1,5}", str(settings["coordinator"])):
        raise ValueError(
            f"`coordinator` is {settings['coordinator']!r}; expected HOST:PORT, as in "
            "10.0.0.1:9876."
        )
    if settings["process_id"] >= settings["processes"]:
        raise ValueError(
            f"`process_id` is {settings['process_id']}, but `processes` is "
            f"{settings['processes']}; expected 0 to {settings['processes'] - 1}."
        )
