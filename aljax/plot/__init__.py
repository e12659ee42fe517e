"""Pictures of finished maps: `pip install 'aljax[plot]'`.

Each function takes a fitted model or estimator, an `AlignedEmbedding`, or plain arrays,
and returns its figure; `save` writes it.  Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

from aljax.errors import nearest_name, optional

if TYPE_CHECKING:
    from aljax.plot.curves import trajectories
    from aljax.plot.explorer import explore
    from aljax.plot.film import animate
    from aljax.plot.inverse import gradient_map, inverse_grid
    from aljax.plot.maps import compare, points, slices
    from aljax.plot.motion import contributions, displacement, loss
    from aljax.plot.style import save

__all__ = [
    "animate",
    "compare",
    "contributions",
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
MODULES = {
    "curves": ("trajectories",),
    "explorer": ("explore",),
    "film": ("animate",),
    "inverse": ("gradient_map", "inverse_grid"),
    "maps": ("compare", "points", "slices"),
    "motion": ("contributions", "displacement", "loss"),
    "style": ("save",),
}
HOMES = {name: module for module, names in MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A picture's function, whose module and libraries are loaded on first use."""
    if name in HOMES:
        return getattr(optional(f"aljax.plot.{HOMES[name]}", "plot"), name)
    hint = nearest_name(name, __all__)
    raise AttributeError(f"module 'aljax.plot' has no attribute {name!r}: {hint}")


def __dir__() -> list[str]:
    return [*__all__]
