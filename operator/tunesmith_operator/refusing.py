"""What a manifest may say on a laptop and cannot mean in a cluster, with the cure (contract 7)."""

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.fields import spell
from tunesmith_api.stages import Failure, failure_of
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.storing import pinned
from tunesmith_operator.world import World

_FILE = "file://"
_UPLOAD = "Run 'tunesmith submit --upload', which puts it into the store, or name an s3://, hf:// or pvc:// source."


def refusal(world: World, settings: OperatorSettings) -> Failure | None:
    """Why the job cannot run in a cluster; None if it can."""
    spec = world.spec
    for field, source in spec.sources().items():
        if source.startswith(_FILE):
            return _refused(f"{spell(field)} is {source}: a pod cannot read a folder of your machine", _UPLOAD)
    if pinned(world) is not None:
        return None
    store = spec.store or settings.store
    if store is None:
        return _refused(
            "the job names no store and the operator has no default one", "Set spec.store, or the operator's store."
        )
    if store.uri.startswith(_FILE):
        return _refused(
            f"spec.store.uri is {store.uri}: pods share no folder", "Name an S3 service: s3://bucket/prefix."
        )
    return None


def _refused(message: str, hint: str) -> Failure:
    return failure_of(StageFailure(FailureClass.SPEC_INVALID, message, hint))
