"""The home of `aljax.layout.adjoint` before version 0.2."""

from aljax.layout.adjoint import graph_of as graph_of
from aljax.layout.adjoint import reweigh as reweigh
from aljax.layout.adjoint import solve_layout as solve_layout
