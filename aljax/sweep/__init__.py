"""Sweeps: many settings of one problem as one compiled program."""

from aljax.sweep.problem import SweepProblem
from aljax.sweep.run import sweep
from aljax.sweep.table import Row, Sweep, measure_row

__all__ = ["Row", "Sweep", "SweepProblem", "measure_row", "sweep"]
