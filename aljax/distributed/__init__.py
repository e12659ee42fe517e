"""One layout by the processes of `jax.distributed`, each with its own slices."""

from aljax.distributed.fit import fit, gather
from aljax.distributed.share import Share, share

__all__ = ["Share", "fit", "gather", "share"]
