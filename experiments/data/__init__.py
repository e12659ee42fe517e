"""The sources of a run's slices."""
