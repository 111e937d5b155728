"""Hypothesis draws the same examples in every run, so that a red build stays red until the code changes. The BLAS has one thread: tests run
side by side, and its threads would wait for each other in busy loops."""

import numpy as np  # only a BLAS that is loaded can be limited
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")
settings.register_profile("reproducible", derandomize=True, deadline=None, database=None, print_blob=False,
                          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.load_profile("reproducible")


@pytest.fixture
def rng() -> np.random.Generator:
    """A test's own numbers: they do not depend on the tests that ran before it."""
    return np.random.default_rng(9)
