"""The engine `Transformers`: transformers' own Trainer with PEFT and bitsandbytes, on a CPU or a GPU."""

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
from tunesmith_trainer.engines.quantized import disable_weight_packing, probe_nf4
from tunesmith_trainer.engines.stepping import trainer_class

# Tensor cores work on multiples of 8 (NVIDIA, matrix multiplication guide); a CPU gains nothing from padding.
GPU_WIDTH_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class TransformersEngine:
    """See `engines.Engine`."""

    name: EngineName = EngineName.TRANSFORMERS

    def import_libraries(self) -> None:
        import torch  # noqa: F401

    def load(self, job: TrainingJob) -> Loaded:
        model = _load_base(job)
        model.config.use_cache = False
        if job.adapter is None:
            return Loaded(model)
        check_targets(job.adapter.targets, linear_names(model), bool(model.config.tie_word_embeddings))
        model = _with_adapter(model, job.adapter, job.settings.seed)
        if job.start_adapter is not None:
            load_start_weights(model, job.start_adapter)
        return Loaded(model)

    def trainer(self, job: TrainingJob, loaded: Loaded, dataset: Any) -> Any:
        from transformers import Trainer, TrainingArguments

        return trainer_class(Trainer)(
            model=loaded.model,
            args=TrainingArguments(**training_arguments(job)),
            data_collator=collator(job, loaded.model),
            train_dataset=dataset,
        )

    def evaluation_collator(self, job: TrainingJob, loaded: Loaded) -> Collator:
        return collator(job, loaded.model)


def collator(job: TrainingJob, model: Any) -> Collator:
    """Logits only where they count, where the model's class can do that."""
    return Collator(
        pad_id=job.pad_id,
        flatten=job.packing,
        select=selects_positions(model),
        multiple=1 if job.device is Device.CPU else GPU_WIDTH_MULTIPLE,
    )


def selects_positions(model: Any) -> bool:
    """Whether the model's forward takes the positions whose logits are wanted."""
    import inspect

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters


def _load_base(job: TrainingJob) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, job.precision.weights)
    options: dict[str, Any] = {}
    if job.settings.method is Method.QLORA:
        probe_nf4(job.device, dtype)
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if job.device is Device.CUDA or options:
        options["device_map"] = {"": "cpu" if job.device is Device.CPU else 0}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            job.base,
            dtype=dtype,
            attn_implementation=job.attention,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise StageFailure(FailureClass.MODEL_INVALID, f"the base model cannot be loaded: {error}") from error
    if options.get("quantization_config") and job.device is Device.CPU:
        disable_weight_packing(model)
    return model


def _with_adapter(model: Any, shape: AdapterShape, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=list(shape.targets),
        use_rslora=shape.rs_lora,
    )
    return get_peft_model(model, config)
