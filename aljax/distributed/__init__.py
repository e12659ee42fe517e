"""One layout by the processes of `jax.distributed`, each with its slices or rows."""

from aljax.distributed.fit import Share, fit, gather, share
from aljax.distributed.meeting import connect
from aljax.distributed.rows import FittedRows, fit_rows

__all__ = ["FittedRows", "Share", "connect", "fit", "fit_rows", "gather", "share"]


def __dir__() -> list[str]:
    return [*__all__]
