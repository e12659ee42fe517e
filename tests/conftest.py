"""Seeds, and two switches: double precision, and errors as a user meets them."""

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

# aljax broadcasts (neighbors, points) with (points,) throughout, by design of its
# axis order, so NumPy's rank promotion stays allowed.
hypothesis.settings.register_profile(
    "aljax", deadline=None, derandomize=True, max_examples=30
)
hypothesis.settings.load_profile("aljax")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def as_users_run_it():
    """Without the runtime type checker: aljax itself has to refuse bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
