"""Programs written for umap-learn run with its import replaced, from end to end."""

import sys
from typing import Any

import numpy as np
import pytest

import aljax

pytestmark = [
    pytest.mark.slow,  # their imports alone take seconds
    pytest.mark.usefixtures("as_users_run_it"),
    pytest.mark.filterwarnings("ignore"),  # those programs' own
]
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(90, 8)).astype(np.float32)
SETTINGS: dict[str, Any] = {"n_neighbors": 8, "random_state": 0, "n_epochs": 50}


@pytest.fixture(autouse=True)
def swapped(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", aljax)


def test_emblaze_projects_a_sequence_of_embeddings():
    emblaze = pytest.importorskip("emblaze", reason="pip install emblaze")
    ids = [np.arange(0, 60), np.arange(20, 80)]
    field = emblaze.Field
    parts = [
        emblaze.Embedding({field.POSITION: ROWS[rows], field.COLOR: rows}, ids=rows)
        for rows in ids
    ]
    before = emblaze.EmbeddingSet(parts, align=False)
    technique = emblaze.ProjectionTechnique.ALIGNED_UMAP
    after = before.project(method=technique, **SETTINGS)
    maps = [part.field(field.POSITION) for part in after.embeddings]
    relations = [{i: i - 20 for i in range(20, 60)}]
    model = aljax.AlignedUMAP(**SETTINGS)
    expected = model.fit_transform([ROWS[rows] for rows in ids], relations=relations)
    for found, positions in zip(maps, expected, strict=True):
        np.testing.assert_array_equal(found, positions)


def test_latent_scope_aligns_saves_and_places_new_rows(tmp_path, monkeypatch):
    reason = "pip install latentscope"
    umapper = pytest.importorskip("latentscope.scripts.umapper", reason=reason)
    store = pytest.importorskip("latentscope.util.embedding_store", reason=reason)
    pandas = pytest.importorskip("pandas")
    monkeypatch.setenv("LATENT_SCOPE_DATA", str(tmp_path))
    for name, count in (("embedding-001", 60), ("embedding-002", 80)):
        store.append_embeddings(str(tmp_path), "data", name, ROWS[:count])
    names, options = ("data", "embedding-001"), {"neighbors": 8, "seed": 0}
    umapper.umapper(*names, **options, align="embedding-002", save=True)
    store.append_embeddings(
        str(tmp_path), "data", "embedding-002", ROWS[80:], start_index=80
    )
    made = umapper.transform_umap("data", "embedding-002", "umap-002")
    folder = tmp_path / "data" / "umaps"
    tables = [folder / f"{name}.parquet" for name in ("umap-001", "umap-002", made)]
    first, second, grown = (pandas.read_parquet(table).to_numpy() for table in tables)
    assert [len(table) for table in (first, second, grown)] == [60, 80, 90]
    np.testing.assert_array_equal(grown[:80], second)
    assert np.abs(grown).max() < 1.5  # in the frame of the published map
    assert np.linalg.norm(first - second[:60], axis=1).mean() < 0.3  # and aligned
