"""What a stage is given by amount or by name, as digests on its Job: whether a failure is worth another try.

Of each only what its failures are about: an operator that is upgraded, or set otherwise, begins nothing else anew.
"""

import json

from tunesmith_api.failures import FailureClass
from tunesmith_api.keys import canonical_json
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import Stage
from tunesmith_operator.names import digest_of
from tunesmith_operator.placing import placed
from tunesmith_operator.pod import StagePlace
from tunesmith_operator.settings import OperatorSettings

RESOURCES, SECRETS, IMAGE = "resources", "secrets", "image"
# Which of them a failure is for want of.
WANTED = {
    FailureClass.OUT_OF_MEMORY: RESOURCES,
    FailureClass.OUT_OF_MEMORY_GPU: RESOURCES,
    FailureClass.DISK_FULL: RESOURCES,
    FailureClass.QUOTA_EXCEEDED: RESOURCES,
    FailureClass.SECRET_MISSING: SECRETS,
    FailureClass.ACCESS_DENIED: SECRETS,
    # A repository that is private is not there for whoever may not see it.
    FailureClass.SOURCE_ABSENT: SECRETS,
    FailureClass.IMAGE_PULL: IMAGE,
}

# What the manifest alone says of a pod, whatever its operator adds.
_NOTHING = OperatorSettings()


def given(stage: Stage, spec: JobSpec, where: StagePlace, settings: OperatorSettings) -> str:
    """The digests of a stage as it would be run now, as JSON."""
    secrets = [where.secrets, where.place.get("serviceAccountName")]
    # A ServiceAccount may name pull secrets of its own.
    image = [settings.images.of(stage), where.place.get("imagePullSecrets", []), where.place.get("serviceAccountName")]
    digests = {RESOURCES: _resources(stage, spec), SECRETS: digest_of(secrets), IMAGE: digest_of(image)}
    return canonical_json(digests).decode()


def wanted_by(failure: FailureClass, digests: str) -> str | None:
    """The digest of what a failure is for want of, out of those of `given` ("": not known); None where of nothing."""
    name, known = WANTED.get(failure), dict(json.loads(digests or "{}"))
    return None if name is None else known.get(name)


def _resources(stage: Stage, spec: JobSpec) -> str:
    """Of the manifest: what it adds, or another GPU; a training that needs less is another one."""
    training = spec.training
    gpu = training.gpu and [training.gpu.product, training.gpu.memory]
    rows = [training.batch_size, training.gradient_checkpointing, gpu] if stage is Stage.TRAIN else []
    resources = placed(stage, spec, _NOTHING).get("resources", {})
    return digest_of([{kind: amounts for kind, amounts in resources.items() if amounts}, rows])
