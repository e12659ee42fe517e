"""One layout by the processes of `jax.distributed`, each with its own slices."""

from aljax.distributed.fit import Share, fit, gather, share
from aljax.distributed.meeting import connect

__all__ = ["Share", "connect", "fit", "gather", "share"]


def __dir__() -> list[str]:
    return [*__all__]
