"""The layout as functions: problem -> state -> maps, and derivatives through them.

problem = stack(graphs, relations, key=key)
state = init(stack_maps(start, problem), n_epochs=350)
state = run(problem, params, state, 350, key=key, n_shifts=40)
maps = unstack_maps(state.maps, problem)
"""

from typing import TYPE_CHECKING, Any

from aljax.layout.losses import LossTerms
from aljax.layout.objective import aligned_loss
from aljax.layout.optimize import LayoutState, init, run, step
from aljax.layout.problem import (
    AlignedProblem,
    LayoutParams,
    layout_params,
    stack,
    stack_maps,
    unstack_maps,
)
from aljax.layout.shifts import draw_shifts

if TYPE_CHECKING:
    from aljax.layout.adjoint import Unrolled, graph_of, reweigh, solve_layout
    from aljax.layout.implicit import Anchored, Implicit
    from aljax.layout.outer import Encoded, coupling_weights, hypergradient, min_dists

__all__ = [
    "AlignedProblem",
    "Anchored",
    "Encoded",
    "Implicit",
    "LayoutParams",
    "LayoutState",
    "LossTerms",
    "Unrolled",
    "aligned_loss",
    "coupling_weights",
    "draw_shifts",
    "graph_of",
    "hypergradient",
    "init",
    "layout_params",
    "min_dists",
    "reweigh",
    "run",
    "solve_layout",
    "stack",
    "stack_maps",
    "step",
    "unstack_maps",
]


def __getattr__(name: str) -> Any:
    """Loads the derivatives on first use; `outer` has all their names."""
    if name in __all__:
        from aljax.layout import outer

        return getattr(outer, name)
    raise AttributeError(f"module 'aljax.layout' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__]
