"""Measures of one map and of a sequence of maps."""

from aljax.metrics.maps import knn_accuracy, knn_recall, trustworthiness
from aljax.metrics.motion import displacement

__all__ = ["displacement", "knn_accuracy", "knn_recall", "trustworthiness"]
