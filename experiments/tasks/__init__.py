"""The tasks of a run: a fit, a sweep, a trained pipeline."""
