"""aljax: sequences of maps that stay comparable."""

from aljax.align import AlignedEmbedding, fit
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.neighbors import KNN, as_knn
from aljax.tables import sliding_windows

__all__ = [
    "KNN",
    "AlignedEmbedding",
    "AlignmentConfig",
    "FuzzyGraph",
    "GraphConfig",
    "LayoutConfig",
    "as_knn",
    "fit",
    "sliding_windows",
]
