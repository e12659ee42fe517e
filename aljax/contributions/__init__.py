"""Moves of members are explained by the columns of their data, and by all others."""

from aljax.contributions.explain import explain
from aljax.contributions.result import Contributions

__all__ = ["Contributions", "explain"]
