"""The results that a run writes."""
