"""What each stage is told: what the spec says, else what its family's data or a rule stated here does."""

from dataclasses import dataclass

from tunesmith_api import families
from tunesmith_api.families import Family
from tunesmith_api.measuring import EVALUATION_PERCENT, FORGETTING_CHUNKS
from tunesmith_api.resolved import Resolved, ResolvedDataset, ResolvedModel
from tunesmith_api.settings import (
    AnswerSettings,
    BaselineSettings,
    ConvertSettings,
    DatasetOrigin,
    DatasetSettings,
    EvaluateSettings,
    HubSettings,
    ImatrixSettings,
    LoraSettings,
    PrepareSettings,
    PublishSettings,
    QuantizeSettings,
    TrainSettings,
)
from tunesmith_api.sources import PORTABLE, told
from tunesmith_api.spec import Dataset, Engine, Hub, ImatrixMode, JobSpec, Method, Optimizer

# The baseline's logits are bounded: 40 windows of the largest vocabulary in use (262,144) take 5.4 GB (P65).
LOGITS_BYTES = 6 << 30
# What Ollama gives a model whose Modelfile says nothing (P70): short training rows are no reason to forget sooner.
OLLAMA_CONTEXT = 2_048
# How long an answer may get: the longest that a small model on a device is asked for in one go, in tokens.
MAX_NEW_TOKENS = 256
# Where everybody may look, if no secret is asked for.
_PUBLIC = ("hf://", "https://")


@dataclass(frozen=True, slots=True)
class Effective:
    """The settings of every stage, resolved."""

    prepare: PrepareSettings
    train: TrainSettings
    convert: ConvertSettings
    imatrix: ImatrixSettings
    imatrix_mode: ImatrixMode
    baseline: BaselineSettings
    evaluate: EvaluateSettings
    publish: PublishSettings

    def quantize(self, type_: str) -> QuantizeSettings:
        """The settings of one quantization."""
        return QuantizeSettings(type=type_, answers=self.evaluate.answers)


def resolve_settings(job_name: str, spec: JobSpec, resolved: Resolved) -> Effective:
    """All stages' settings, a pure function of spec, resolved sources and the family's data."""
    family = families.load(resolved.model.family)
    train = train_settings(spec, resolved, family)
    answers = AnswerSettings(
        prompts=spec.evaluation.prompts,
        metric=spec.evaluation.metric,
        max_new_tokens=min(MAX_NEW_TOKENS, train.max_sequence_length),
        seed=train.seed,
    )
    hub = spec.publish.hub
    return Effective(
        prepare=_prepare(spec, resolved, train),
        train=train,
        convert=ConvertSettings(
            base_source=_anywhere(resolved.model),
            base_revision=resolved.model.revision,
            base_digest=resolved.model.digest,
            dataset_digests=tuple(dataset.digest for dataset in resolved.datasets),
            method=train.method,
            adapter_gguf=family.adapter_gguf and train.method is not Method.FULL,
        ),
        imatrix=ImatrixSettings(chunks=spec.imatrix.chunks),
        imatrix_mode=spec.imatrix.mode,
        baseline=BaselineSettings(chunks=spec.evaluation.chunks, max_bytes=LOGITS_BYTES),
        evaluate=EvaluateSettings(answers=answers, chunks=min(FORGETTING_CHUNKS, spec.evaluation.chunks)),
        publish=PublishSettings(
            job_name=job_name,
            gates=spec.gates.model_copy(update={"ideal_perplexity_increase": spec.gates.ideal_that_holds}),
            hub=None if hub is None else _hub(hub),
            context_length=_served_context(train, resolved),
            system_prompt=spec.training.system_prompt,
            datasets=tuple(map(_origin, spec.datasets, resolved.datasets)),
        ),
    )


def _origin(asked: Dataset, found: ResolvedDataset) -> DatasetOrigin:
    """Folders, buckets and what takes a secret are nobody else's: a card names them by their content alone."""
    public = asked.source.startswith(_PUBLIC) and asked.secret_ref is None and told(asked.source) == asked.source
    if not public:
        return DatasetOrigin(digest=found.digest)
    return DatasetOrigin(digest=found.digest, uri=asked.source, revision=found.revision)


def _served_context(train: TrainSettings, resolved: Resolved) -> int:
    """Tokens that the Modelfile asks for: what was trained with, no less than Ollama gives by itself (P70)."""
    return min(max(train.max_sequence_length, OLLAMA_CONTEXT), resolved.model.dimensions.max_position_embeddings)


def _anywhere(model: ResolvedModel) -> str:
    """The model's address where it means the same on every machine, without a query (it may be signed), else its name.

    It enters a key and the GGUF: two users with one model in folders of their own share what is made of it (P37).
    """
    return model.uri.partition("?")[0] if model.uri.startswith(PORTABLE) else model.name


def train_settings(spec: JobSpec, resolved: Resolved, family: Family) -> TrainSettings:
    """The training's settings with the family's values where the spec is silent."""
    training, defaults = spec.training, family.training
    method = training.method
    rate = training.learning_rate
    if rate is None:
        rate = 0.0 if method is Method.NONE else defaults.learning_rate.of(method.value)
    return TrainSettings(
        method=method,
        engine=_engine(spec, family),
        epochs=training.epochs if training.epochs is not None else defaults.epochs,
        max_steps=training.max_steps,
        max_sequence_length=min(training.max_sequence_length, resolved.model.dimensions.max_position_embeddings),
        learning_rate=rate,
        scheduler=training.scheduler,
        warmup_ratio=training.warmup_ratio,
        weight_decay=training.weight_decay,
        optimizer=_optimizer(spec),
        effective_batch_size=training.effective_batch_size,
        packing=training.packing,
        seed=training.seed,
        eval_every=training.eval_every,
        keep_best=training.keep_best,
        early_stopping=training.early_stopping,
        lora=_lora(spec, family) if method in (Method.LORA, Method.QLORA) else None,
        attention=family.attention,
        start_adapter=None if resolved.adapter is None else resolved.adapter.digest,
    )


def _engine(spec: JobSpec, family: Family) -> Engine:
    if spec.training.engine is not Engine.AUTO:
        return spec.training.engine
    return Engine.UNSLOTH if spec.training.gpu is not None and family.unsloth else Engine.TRANSFORMERS


def _optimizer(spec: JobSpec) -> Optimizer:
    if spec.training.optimizer is not Optimizer.AUTO:
        return spec.training.optimizer
    paged = spec.training.method is Method.QLORA and spec.training.gpu is not None
    return Optimizer.PAGED_ADAMW_8BIT if paged else Optimizer.ADAMW


def _lora(spec: JobSpec, family: Family) -> LoraSettings:
    lora, defaults = spec.training.lora, family.training
    if lora is None:
        return LoraSettings(
            rank=defaults.rank, alpha=defaults.alpha, dropout=defaults.dropout, target_modules=family.lora_targets
        )
    rank = lora.rank or defaults.rank
    return LoraSettings(
        rank=rank,
        # The family's alpha belongs to the family's rank: another rank keeps the ratio.
        alpha=lora.alpha or max(1, round(defaults.alpha * rank / defaults.rank)),
        dropout=lora.dropout,
        target_modules=lora.target_modules or family.lora_targets,
        rs_lora=lora.rs_lora,
    )


def _prepare(spec: JobSpec, resolved: Resolved, train: TrainSettings) -> PrepareSettings:
    held_out = spec.evaluation.dataset
    percent = None if held_out is not None else spec.evaluation.percent or EVALUATION_PERCENT
    return PrepareSettings(
        datasets=tuple(_dataset(*pair) for pair in zip(spec.datasets, resolved.datasets, strict=True)),
        evaluation=None if held_out is None or not resolved.evaluation else _dataset(held_out, resolved.evaluation),
        evaluation_percent=percent,
        max_sequence_length=train.max_sequence_length,
        system_prompt=spec.training.system_prompt,
        on_invalid_rows=spec.on_invalid_rows,
        on_too_long=spec.on_too_long,
        seed=train.seed,
        family=resolved.model.family,
    )


def _dataset(dataset: Dataset, resolved: ResolvedDataset) -> DatasetSettings:
    return DatasetSettings(
        digest=resolved.digest,
        config=dataset.config,
        split=dataset.split,
        format=dataset.format,
        columns=dataset.columns,
        weight=dataset.weight,
        max_examples=dataset.max_examples,
    )


def _hub(hub: Hub) -> HubSettings:
    secret = None if hub.secret_ref is None else hub.secret_ref.name
    return HubSettings(repo=hub.repo, private=hub.private, files=hub.files, secret=secret)
