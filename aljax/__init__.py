"""aljax: sequences of maps that stay comparable."""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

from aljax.errors import check_jax

check_jax()

from aljax.checkpoints import Checkpoints
from aljax.compilation import enable_compilation_cache
from aljax.config import AlignmentConfig, GraphConfig, InverseConfig, LayoutConfig
from aljax.contributions import Contributions, explain
from aljax.couple import Coupling, couple
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError, nearest_name
from aljax.fit import fit, prepare
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import KNN, as_knn
from aljax.inverse import Reconstruction, gradient_map, inverse_transform
from aljax.scaling import Scaling, scale
from aljax.tables import slices_from_table, sliding_windows
from aljax.transform import Placement, place, transform
from aljax.update import update

if TYPE_CHECKING:
    from aljax.estimator import UMAP, AlignedUMAP
    from aljax.layout.outer import hypergradient

load = AlignedEmbedding.load
ROOMS = ("distributed", "metrics", "plot", "selection", "sweep")
LATER = {"AlignedUMAP": "estimator", "UMAP": "estimator", "hypergradient": "layout"}

__all__ = [
    "KNN",
    "UMAP",
    "AlignedEmbedding",
    "AlignedUMAP",
    "AlignmentConfig",
    "Checkpoints",
    "Contributions",
    "Coupling",
    "FuzzyGraph",
    "GraphConfig",
    "InputError",
    "InverseConfig",
    "LayoutConfig",
    "Placement",
    "Reconstruction",
    "Scaling",
    "as_knn",
    "couple",
    "enable_compilation_cache",
    "explain",
    "fit",
    "gradient_map",
    "hypergradient",
    "inverse_transform",
    "load",
    "place",
    "prepare",
    "scale",
    "slices_from_table",
    "sliding_windows",
    "transform",
    "update",
]


def __getattr__(name: str) -> Any:
    """Loads on first use the parts that not everybody needs, such as scikit-learn."""
    if name == "__version__":
        return metadata.version("aljax")
    if name in LATER:
        return getattr(importlib.import_module(f"aljax.{LATER[name]}"), name)
    if name in ROOMS:
        return importlib.import_module(f"aljax.{name}")
    hint = nearest_name(name, [*__all__, *ROOMS])
    raise AttributeError(f"module 'aljax' has no attribute {name!r}: {hint}")


def __dir__() -> list[str]:
    return sorted([*__all__, *ROOMS, "__version__"])
