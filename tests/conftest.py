"""What every test runs under."""

import os

from hypothesis import HealthCheck, settings

# Test workers and what they start share the cores: threads that wait must not spin (see local/processes.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
