"""What there is to say of a manifest that is right: fields that do nothing here."""

from tunesmith_api.spec import FineTuneJob

# What only means something where several jobs share machines, and objects live on after a run.
_CLUSTER_FIELDS = ("suspend", "priority", "backoffLimit", "ttlSecondsAfterFinished", "stages")


def notes_on(job: FineTuneJob) -> tuple[str, ...]:
    """Sentences for whoever runs the job on this machine."""
    notes = []
    if job.spec.targets:
        notes.append("spec.targets is accepted and not yet used: name quantizations instead.")
    written = job.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"]
    if unused := ", ".join(f"spec.{name}" for name in _CLUSTER_FIELDS if name in written):
        notes.append(f"Only in a cluster, and without effect here: {unused}.")
    return tuple(notes)
