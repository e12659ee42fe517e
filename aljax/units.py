"""A center and a unit for each column, which numbers are counted from and in.

x' = (x - center) / unit
"""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float


class Units(eqx.Module):
    """The center and the unit of each column, in what the numbers came in.

    Attributes:
        center: What becomes 0.
        unit: The length that becomes 1 (above 0).
    """

    center: Float[np.ndarray, "columns"]
    unit: Float[np.ndarray, "columns"]

    def apply(self, rows: Any) -> Any:
        """Returns rows `(rows, columns)` in these units."""
        return (rows - self.center) / self.unit

    def undo(self, rows: Any) -> Any:
        """Returns rows that are in these units in their former ones."""
        return rows * self.unit + self.center
