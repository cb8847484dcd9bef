"""What a stage needs of the machine that it runs on: disk, memory, and time to save what it has."""

import math
from dataclasses import dataclass

from tunesmith_api.effective import Effective
from tunesmith_api.estimates import ADAPTER_COPIES, BF16_BYTES, adapter_bytes, logits_bytes, quantized_bytes
from tunesmith_api.plan import PlannedStage
from tunesmith_api.resolved import ModelDimensions, Resolved
from tunesmith_api.spec import Method
from tunesmith_api.stages import Stage

GIBIBYTE = 1 << 30
# Python with torch, transformers, peft and trl (769 MB measured), or with what llama.cpp's stages import (77 MB) and
# llama.cpp's own buffers, in bytes; both with room for rows.
_WITH_TORCH, _WITHOUT_TORCH = 2 * GIBIBYTE, GIBIBYTE
# Bytes per parameter that training holds in a host's memory: AdamW's two moments and gradients in fp32 for full
# fine-tuning, else weights in fp32, as a processor without bf16 has them; NF4 as the QLoRA paper says (section 3).
_TRAINED = {Method.FULL: 16.0, Method.LORA: 4.0, Method.QLORA: 0.6, Method.NONE: 0.0}
# Bytes per token of one row with activations computed twice, per hidden unit of one layer, per hidden unit of each
# layer, and per word of the vocabulary (tunesmith_trainer.engines.batching has the sources); the share of memory that
# such estimates may fill.
_LAYER, _EACH_LAYER, _LOGITS, _USABLE = 68, 8, 12, 0.7
# A checkpoint: weights that are trained, and AdamW's two moments of them.
_CHECKPOINT_COPIES = 3
# What a checkpoint is taken to be stored at: a store behind a network of 1 Gbit/s gets half of that through.
UPLOAD_BYTES_PER_SECOND = 60e6
# Ending the step under way and the process.
_ENDING_SECONDS = 30
# The longest grace period: clusters that drain nodes wait no longer (kubectl drain and cluster-autoscaler, 10 minutes).
LONGEST_GRACE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes that a stage leaves in the store, that it needs beside them while it runs, and that it reads."""

    kept: int = 0
    passing: int = 0
    read: int = 0


def space_of(stage: PlannedStage, resolved: Resolved, values: Effective) -> Space:
    """What a stage takes; all stages of a job together take what `tunesmith plan` says (estimates.estimate)."""
    model = resolved.model.dimensions
    gguf, adapter = model.parameters * BF16_BYTES, adapter_bytes(model, values.train)
    logits = logits_bytes(model, values.baseline)
    if stage.stage is Stage.QUANTIZE:
        return Space(kept=quantized_bytes(model, str(stage.variant)), read=gguf + logits)
    others = {
        Stage.PREPARE: Space(kept=model.bytes),
        Stage.TRAIN: Space(kept=ADAPTER_COPIES * adapter, read=model.bytes),
        Stage.CONVERT: Space(kept=len(stage.outputs) * gguf, passing=gguf, read=model.bytes + adapter),
        Stage.BASELINE: Space(kept=logits, read=gguf),
        Stage.EVALUATE: Space(read=2 * gguf),
    }
    return others.get(stage.stage, Space(read=gguf))


def scratch_bytes(stage: PlannedStage, resolved: Resolved, values: Effective) -> int:
    """What lies in a stage's working folder at most, with a store that is elsewhere; a gibibyte for logs and such."""
    space = space_of(stage, resolved, values)
    return space.kept + space.passing + space.read + GIBIBYTE


def memory_bytes(stage: PlannedStage, resolved: Resolved, values: Effective, *, gpu: bool) -> int:
    """The memory with which a stage gets through; training takes more rows at once where it has more."""
    model = resolved.model.dimensions
    weights = model.parameters * BF16_BYTES
    if stage.stage is Stage.TRAIN:
        # On a GPU's host the weights only pass through.
        return _WITH_TORCH + (weights if gpu else _training_bytes(model, values))
    if stage.stage is Stage.CONVERT:
        # Base, merged model, and what is written.
        return _WITH_TORCH + 3 * weights
    if stage.stage is Stage.PREPARE:
        return _WITH_TORCH
    return _WITHOUT_TORCH + (0 if stage.stage is Stage.PUBLISH else weights)


def _training_bytes(model: ModelDimensions, values: Effective) -> int:
    train = values.train
    of_layers = model.hidden_size * (_LAYER + _EACH_LAYER * model.layers)
    row = train.max_sequence_length * (of_layers + model.vocab_size * _LOGITS)
    return int(model.parameters * _TRAINED[train.method] + row / _USABLE)


def grace_seconds(stage: PlannedStage, resolved: Resolved, values: Effective) -> int:
    """How long a stage may take to end once it is asked to: training saves a checkpoint, and stores it."""
    if stage.stage is not Stage.TRAIN:
        return _ENDING_SECONDS
    size = adapter_bytes(resolved.model.dimensions, values.train) * _CHECKPOINT_COPIES
    return min(_ENDING_SECONDS + math.ceil(size / UPLOAD_BYTES_PER_SECOND), LONGEST_GRACE_SECONDS)
