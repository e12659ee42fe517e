"""Relations: who is who in a sequence of slices, and how surely.

what the user gives -> read_relations -> Mates -> relate -> with their strengths
"""

import sys

from aljax.relations import mates
from aljax.relations.mates import Mates, Relations
from aljax.relations.read import read_relations
from aljax.relations.strengths import relate

__all__ = ["Mates", "Relations", "read_relations", "relate"]

# Where pickles of version 0.1 look for `Mates`.
sys.modules.setdefault("aljax.graph.relations", mates)
