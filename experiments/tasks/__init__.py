"""What is done with the data of a run."""
