"""What a stage is told beside its settings: where sources are reached, how fast and in how much memory; in no key."""

from dataclasses import dataclass

from tunesmith_api.effective import resolve_settings
from tunesmith_api.placement import quantity_number
from tunesmith_api.resolved import Resolved
from tunesmith_api.schema import Api
from tunesmith_api.spec import Dataset, Evaluation, JobSpec, Model, Store, Training
from tunesmith_api.stages import StoreLocation


class TrainExecution(Api):
    """How training is carried out; changes neither the key nor, but for rounding, the weights.

    `use_gpu` takes one that is there and works; with `gpu_required` there has to be one, of `gpu_product` (as its node
    label has it) or with `gpu_memory_bytes`, where they are named.
    """

    batch_size: int | None = None
    gradient_checkpointing: bool | None = None
    save_every: int | None = None
    use_gpu: bool = False
    gpu_required: bool = False
    gpu_product: str | None = None
    gpu_memory_bytes: int | None = None


def train_execution(training: Training, *, use_gpu: bool) -> TrainExecution:
    """How a manifest wants training carried out; a GPU that it asks for is a condition."""
    gpu = training.gpu
    return TrainExecution(
        batch_size=training.batch_size,
        gradient_checkpointing=training.gradient_checkpointing,
        save_every=training.save_every,
        use_gpu=use_gpu,
        gpu_required=gpu is not None,
        gpu_product=gpu and gpu.product,
        gpu_memory_bytes=int(quantity_number(gpu.memory)) if gpu and gpu.memory else None,
    )


def location_of(store: Store, namespace: str) -> StoreLocation:
    """Where a manifest's store is, for stages."""
    return StoreLocation(
        uri=store.uri,
        endpoint=store.endpoint,
        region=store.region,
        secret=None if store.secret_ref is None else store.secret_ref.name,
        ca_secret=None if store.ca_secret_ref is None else store.ca_secret_ref.name,
        namespace=namespace,
    )


class PrepareExecution(Api):
    """Where prepare finds what its settings name by digest; `folder` is where relative file paths start.

    `lora_targets` are what training will ask of the model: checked before it takes a GPU, and nothing of the dataset.
    """

    model: Model
    datasets: tuple[Dataset, ...]
    evaluation: Evaluation
    resolved: Resolved
    folder: str
    endpoint: str | None = None
    region: str | None = None
    ca_secret: str | None = None
    store_secret: str | None = None
    lora_targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reach:
    """From where sources are reached: the folder of relative paths, and the S3 service of those that name none."""

    folder: str
    endpoint: str | None = None
    region: str | None = None
    ca_secret: str | None = None
    store_secret: str | None = None


def prepare_execution(job_name: str, spec: JobSpec, resolved: Resolved, reach: Reach) -> PrepareExecution:
    """Where the sources of a job are, pinned."""
    return PrepareExecution(
        model=spec.model,
        datasets=spec.datasets,
        evaluation=spec.evaluation,
        resolved=resolved,
        folder=reach.folder,
        endpoint=reach.endpoint,
        region=reach.region,
        ca_secret=reach.ca_secret,
        store_secret=reach.store_secret,
        lora_targets=resolve_settings(job_name, spec, resolved).train.fresh_targets,
    )
