"""Relations: who is who in a sequence of slices, and how surely.

what the user gives -> read_relations -> Mates -> relate -> with their strengths
"""

from aljax.relations.mates import Mates, Relations
from aljax.relations.read import read_relations
from aljax.relations.strengths import relate

__all__ = ["Mates", "Relations", "read_relations", "relate"]
