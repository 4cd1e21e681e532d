"""What every test shares."""

from hypothesis import HealthCheck, settings

# A slow machine is no fault of the code under test, so no example has a time limit.
settings.register_profile(
    "feilun", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("feilun")
