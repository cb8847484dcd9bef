"""Which ends of a stage's pod its Job tries again by itself, by exit code (contract 10)."""

from tunesmith_api.failures import FAILURES, FailureClass
from tunesmith_operator.world import Ended

# The training has tried half the batch itself; after the damaged artifact's maker the operator begins anew.
_OURS = (FailureClass.OUT_OF_MEMORY_GPU, FailureClass.ARTIFACT_CORRUPT)

TRIED_AGAIN = {rule.exit_code: name.value for name, rule in FAILURES.items() if rule.retry_helps and name not in _OURS}
FINAL = sorted({rule.exit_code for rule in FAILURES.values()} - TRIED_AGAIN.keys())

# Killed by SIGKILL (128 + 9): under a memory limit most likely the kernel, where the kubelet does not say so itself
# (KEP-3329: the reason OOMKilled is no part of the API).
_KILLED = 137


def killed_for_memory(ended: Ended) -> bool:
    """Whether the kernel has ended it, most likely for its memory."""
    return ended.reason == "OOMKilled" or ended.exit_code == _KILLED
