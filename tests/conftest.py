"""What every test runs under."""

import os

# Test workers and what they start share the cores: threads that wait must not spin (see local/processes.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
