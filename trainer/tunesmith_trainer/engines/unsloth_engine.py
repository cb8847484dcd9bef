"""The engine `Unsloth`: Unsloth's loaders with TRL's SFTTrainer, on a GPU or on Unsloth's CPU backend."""

from dataclasses import dataclass
from typing import Any

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.training import Engine as EngineName
from tunesmith_api.training import Method
from tunesmith_trainer.engines import Loaded
from tunesmith_trainer.engines.adapter import AdapterShape, check_targets, linear_names, load_start_weights
from tunesmith_trainer.engines.arguments import training_arguments
from tunesmith_trainer.engines.collate import Collator
from tunesmith_trainer.engines.job import TrainingJob
from tunesmith_trainer.engines.precision import Device
from tunesmith_trainer.engines.quantized import is_quantized, probe_nf4
from tunesmith_trainer.engines.stepping import trainer_class
from tunesmith_trainer.engines.transformers_engine import GPU_WIDTH_MULTIPLE, selects_positions


@dataclass(frozen=True, slots=True)
class UnslothEngine:
    """See `engines.Engine`. Unsloth patches transformers, TRL and PEFT for the whole process."""

    name: EngineName = EngineName.UNSLOTH

    def import_libraries(self) -> None:
        # Before transformers, TRL and PEFT, or its patches do not reach them (P16).
        import unsloth  # noqa: F401

    def load(self, job: TrainingJob) -> Loaded:
        model, tokenizer = _load_base(job)
        if job.adapter is None:
            return Loaded(model, tokenizer)
        check_targets(job.adapter.targets, linear_names(model), bool(model.config.tie_word_embeddings))
        model = _with_adapter(model, job.adapter, job)
        if job.start_adapter is not None:
            load_start_weights(model, job.start_adapter)
        return Loaded(model, tokenizer)

    def trainer(self, job: TrainingJob, loaded: Loaded, dataset: Any) -> Any:
        from trl import SFTConfig, SFTTrainer

        config = SFTConfig(
            **training_arguments(job),
            # Rows are tokens and masks already; TRL's own preparation would cut and drop rows without a word.
            dataset_kwargs={"skip_prepare_dataset": True},
            packing=False,
            max_length=job.settings.max_sequence_length,
        )
        trainer = trainer_class(SFTTrainer)(
            model=loaded.model,
            args=config,
            data_collator=Collator(job.pad_id, flatten=job.packing, multiple=_multiple(job)),
            train_dataset=dataset,
            processing_class=loaded.tokenizer,
        )
        # With a tokenizer the trainer would rewrite the model's special tokens and store it with every checkpoint.
        trainer.processing_class = None
        return trainer

    def evaluation_collator(self, job: TrainingJob, loaded: Loaded) -> Collator:
        # On a GPU Unsloth's own forward knows no `shift_labels`.
        select = job.device is Device.CPU and selects_positions(loaded.model)
        return Collator(job.pad_id, flatten=job.packing, select=select, multiple=_multiple(job))


def _multiple(job: TrainingJob) -> int:
    return 1 if job.device is Device.CPU else GPU_WIDTH_MULTIPLE


def _load_base(job: TrainingJob) -> tuple[Any, Any]:
    import torch
    from unsloth import FastLanguageModel

    method = job.settings.method
    dtype = getattr(torch, job.precision.weights)
    if method is Method.QLORA:
        probe_nf4(job.device, dtype)
    options: dict[str, Any] = {}
    if job.device is Device.CPU:
        # On a GPU Unsloth brings its own attention.
        options["attn_implementation"] = job.attention
    else:
        options["float32_mixed_precision"] = method is Method.FULL
    try:
        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=str(job.base),
            max_seq_length=job.settings.max_sequence_length,
            dtype=dtype,
            load_in_4bit=method is Method.QLORA,
            load_in_16bit=method is Method.LORA,
            full_finetuning=method is Method.FULL,
            # Else Unsloth trains a 4-bit mirror of its own in the place of this base (P15).
            use_exact_model_name=True,
            trust_remote_code=False,
            use_gradient_checkpointing=_checkpointing(job),
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"the base model cannot be loaded: {error}") from error
    if (method is Method.QLORA) != is_quantized(model):
        # Unsloth only prints that it fell back to 16 bits.
        raise StageFailure(FailureClass.INTERNAL, f"Unsloth loaded another precision than {method} asks for")
    return model, tokenizer


def _with_adapter(model: Any, shape: AdapterShape, job: TrainingJob) -> Any:
    from unsloth import FastLanguageModel

    return FastLanguageModel.get_peft_model(
        model,
        r=shape.rank,
        target_modules=list(shape.targets),
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        bias="none",
        use_gradient_checkpointing=_checkpointing(job),
        random_state=job.settings.seed,
        max_seq_length=job.settings.max_sequence_length,
        use_rslora=shape.rs_lora,
    )


def _checkpointing(job: TrainingJob) -> str | bool:
    return "unsloth" if job.batching.checkpointing else False
