"""What there is to say of a manifest that is right: fields without effect, a GPU that is not here, sources changed."""

from collections.abc import Sequence

from tunesmith.gpu import has_gpu
from tunesmith_api.resolved import ResolvedModel
from tunesmith_api.schedule import Room
from tunesmith_api.spec import FineTuneJob, Method

# What only means something where several jobs share machines, and objects live on after a run.
_CLUSTER_FIELDS = ("suspend", "priority", "backoffLimit", "ttlSecondsAfterFinished", "stages")


def notes_on(job: FineTuneJob, *, trains: bool = True) -> tuple[str, ...]:
    """Sentences for whoever runs the job on this machine; `trains` is false where the training is done already."""
    return (*_without_effect(job), *(_lacking_gpu(job) if trains else ()))


def notes_on_model(job: FineTuneJob, model: ResolvedModel) -> tuple[str, ...]:
    """A sentence where a manifest asks for more than the model can do."""
    asked, reads = job.spec.training.max_sequence_length, model.dimensions.max_position_embeddings
    if "max_sequence_length" not in job.spec.training.model_fields_set or asked <= reads:
        return ()
    return (f"spec.training.maxSequenceLength is {asked}, but the model reads {reads} tokens, which is what is used.",)


def notes_on_memory(room: Room, left: Sequence[str]) -> tuple[str, ...]:
    """A sentence where a stage takes more memory than there is."""
    name, size = room.hungriest(left)
    if size <= room.memory_bytes:
        return ()
    what = f"{name} takes about {size / 1e9:.1f} GB of memory, and {room.memory_bytes / 1e9:.1f} GB are free here"
    return (f"{what}: it may be slow, or be ended as OutOfMemory. A smaller model or length needs less.",)


def notes_on_drift(drifted: Sequence[str]) -> tuple[str, ...]:
    """A sentence where sources have changed since a job's first run, whose pinned content stays the job's (contract 2).

    `drifted` are their fields.
    """
    if not drifted:
        return ()
    have = "has" if len(drifted) == 1 else "have"
    said = f"{' and '.join(drifted)} {have} changed since this job began, which goes on with what was there then."
    return (f"{said} For the new content choose another --output.",)


def _without_effect(job: FineTuneJob) -> tuple[str, ...]:
    notes = []
    if job.spec.targets:
        notes.append("spec.targets is accepted and not yet used: name quantizations instead.")
    written = job.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"]
    if unused := ", ".join(f"spec.{name}" for name in _CLUSTER_FIELDS if name in written):
        notes.append(f"Only in a cluster, and without effect here: {unused}.")
    return tuple(notes)


def _lacking_gpu(job: FineTuneJob) -> tuple[str, ...]:
    training = job.spec.training
    if training.gpu is None or training.method is Method.NONE or has_gpu():
        return ()
    what = (
        "This machine has no GPU, and spec.training.gpu asks for one: 'tunesmith run' here will end as Unschedulable."
    )
    return (f"{what} Leave out training.gpu to train on the processor.",)
