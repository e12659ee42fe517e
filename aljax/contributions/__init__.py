"""What moved a member: the columns of its data, and all others."""

from aljax.contributions.explain import explain
from aljax.contributions.result import Contributions

__all__ = ["Contributions", "explain"]
