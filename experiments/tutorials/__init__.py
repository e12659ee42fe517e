"""umap-learn's tutorials, run by aljax."""
