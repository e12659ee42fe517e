"""Pictures of finished maps: `pip install 'aljax[plot]'`.

Each function takes a fitted model or estimator, an `AlignedEmbedding`, or plain arrays,
and returns its figure; `save` writes it.  Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

from aljax.errors import optional

if TYPE_CHECKING:
    from aljax.plot.explorer import explore
    from aljax.plot.film import animate
    from aljax.plot.inverse import gradient_map, inverse_grid
    from aljax.plot.maps import points, slices
    from aljax.plot.motion import displacement, loss, trajectories
    from aljax.plot.style import save

ROOMS = {
    "animate": "film",
    "displacement": "motion",
    "explore": "explorer",
    "gradient_map": "grids",
    "inverse_grid": "grids",
    "loss": "motion",
    "points": "maps",
    "save": "paper",
    "slices": "maps",
    "trajectories": "lines",
}
__all__ = [
    "animate",
    "displacement",
    "explore",
    "gradient_map",
    "inverse_grid",
    "loss",
    "points",
    "save",
    "slices",
    "trajectories",
]


def __getattr__(name: str) -> Any:
    """A picture's function, whose room and libraries are loaded on first use."""
    if name in ROOMS:
        return getattr(optional(f"aljax.plot.{ROOMS[name]}", "plot"), name)
    raise AttributeError(f"module 'aljax.plot' has no attribute {name!r}")
