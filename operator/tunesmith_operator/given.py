"""What a stage is given by amount or by name, as digests on its Job: whether a failure is worth another try.

Of each only what its failures are about: an operator that is upgraded, or set otherwise, begins nothing else anew.
"""

import json
from collections.abc import Mapping

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
    FailureClass.IMAGE_PULL: IMAGE,
}

# What the manifest alone says of a pod, whatever its operator adds.
_NOTHING = OperatorSettings()


def given(stage: Stage, spec: JobSpec, where: StagePlace, settings: OperatorSettings) -> str:
    """The digests of a stage as it would be run now, as JSON."""
    secrets = [where.secrets, where.place.get("serviceAccountName")]
    image = [settings.images.of(stage), where.place.get("imagePullSecrets", [])]
    digests = {RESOURCES: _resources(stage, spec), SECRETS: digest_of(secrets), IMAGE: digest_of(image)}
    return canonical_json(digests).decode()


def worth_another_try(failure: FailureClass, before: str, now: str) -> bool:
    """Whether what a failure was for want of is another now; `before` and `now` are of `given` ("": not known)."""
    wanted = WANTED.get(failure)
    return wanted is not None and wanted in (known := _read(before)) and known[wanted] != _read(now).get(wanted)


def _read(text: str) -> Mapping[str, str]:
    return dict(json.loads(text)) if text else {}


def _resources(stage: Stage, spec: JobSpec) -> str:
    """Of the manifest: what it adds, or another GPU; a training that needs less is another one."""
    training = spec.training
    gpu = training.gpu and [training.gpu.product, training.gpu.memory]
    rows = [training.batch_size, training.gradient_checkpointing, gpu] if stage is Stage.TRAIN else []
    resources = placed(stage, spec, _NOTHING).get("resources", {})
    return digest_of([{kind: amounts for kind, amounts in resources.items() if amounts}, rows])
