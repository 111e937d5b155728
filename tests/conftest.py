"""Hypothesis draws the same examples in every run, so that a red build stays red until the code changes."""

from hypothesis import HealthCheck, settings

settings.register_profile("reproducible", derandomize=True, deadline=None, database=None, print_blob=False,
                          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.load_profile("reproducible")
