"""Runs of aljax from the command line: `python -m experiments.run --help`."""

import os

# Before anything imports jax: on some hosts its compilation cache prints an alarming
# line about machine features for every program it loads, although each runs well.
# 1 is what jax sets itself, and a parent process may have passed it on.
if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
