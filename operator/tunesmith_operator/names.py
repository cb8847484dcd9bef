"""What the operator's objects are called and marked with (contract 6 of the design)."""

import hashlib

from tunesmith_api.keys import canonical_json
from tunesmith_api.names import DOMAIN
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import Stage

CONTROLLER = f"{DOMAIN}/operator"
KEYS_ANNOTATION = f"{DOMAIN}/keys"
TEMPLATE_ANNOTATION = f"{DOMAIN}/template"
LIMIT_ANNOTATION = f"{DOMAIN}/deadline"
TURN_ANNOTATION = f"{DOMAIN}/turn"
GIVEN_ANNOTATION = f"{DOMAIN}/given"
REQUEST_ANNOTATION = f"{DOMAIN}/request"
# Of pods' tokens for the operator. The API server takes tokens for its own audiences only: this one opens nothing else.
AUDIENCE = f"{DOMAIN}/progress"

# So many hex digits of a key are in a name: with a job's name of 40 characters and the longest stage's it stays below
# the 63 of a DNS label, which a Job's name has to be since its pods are labelled with it (k8s.io/api/batch/v1).
KEY_DIGITS = 8


def job_name(job: str, stage: Stage, key: str) -> str:
    """The name of a stage's Job. The type of a quantization is not in it: its key is another for each."""
    return f"{job}-{stage.value}-{key[:KEY_DIGITS]}"


def sources_key(spec: JobSpec) -> str:
    """What prepare's Job is named by: its sources as they are written, before they are resolved.

    All that is hashed is immutable (contract 8), so that a job has one prepare for life.
    """
    sources = {
        "model": [spec.model.source, spec.model.revision, spec.model.adapter],
        "datasets": [dataset.source for dataset in spec.datasets],
    }
    return hashlib.sha256(canonical_json(sources)).hexdigest()


def digest_of(template: object) -> str:
    """The hash that says whether a Job was made from this; never of the live object, which others change."""
    return hashlib.sha256(canonical_json(template)).hexdigest()
