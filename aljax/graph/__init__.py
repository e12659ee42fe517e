"""Slices into fuzzy graphs: neighbors, memberships, classes and values."""

from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.knn import KNN, as_knn
from aljax.graph.neighbors import find_neighbors

__all__ = ["KNN", "FuzzyGraph", "as_knn", "find_neighbors", "fuzzy_simplicial_set"]
