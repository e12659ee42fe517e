"""Where the slices of a run come from."""
