"""How much disk, time and space a job will take before it runs: pure functions of dimensions and settings."""

from dataclasses import dataclass

from tunesmith_api.quantizations import QUANTIZATIONS
from tunesmith_api.resolved import ModelDimensions, Resolved
from tunesmith_api.settings import BaselineSettings, TrainSettings
from tunesmith_api.spec import Method

# bf16, as base and merged model are held and converted (P34, P47).
_BF16_BYTES = 2
# Bytes of JSON per token of English text, with names of fields and quotes: about 4 characters a token (OpenAI's
# tokenizer guide) and a fifth of a row for JSON.
_JSON_BYTES_PER_TOKEN = 5.0
# Tokens a second that one core of an AVX-512 server trains of a model of 135 million parameters by LoRA
# (docs/benchmarks.md); the work per token is proportional to the parameters.
_REFERENCE_SPEED, _REFERENCE_PARAMETERS = 100.0, 134.5e6
# Full fine-tuning computes the gradients of all weights too: 6 against 4 operations per weight and token
# (Kaplan et al. 2020, section 2.1, without the weight gradients for LoRA).
_FULL_COST = 1.5
# llama.cpp reads a model of this size at some 400 tokens a second and core (docs/benchmarks.md).
_READ_SPEED = 400.0
# Starting Python with torch, loading a model, writing a file: seconds per stage on an idle machine.
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, and seconds on this machine; a rough guide, measured figures are in the report."""

    file_bytes: dict[str, int]
    disk_bytes: int
    download_bytes: int
    train_tokens: int
    seconds: float


def estimate(resolved: Resolved, train: TrainSettings, baseline: BaselineSettings, types: tuple[str, ...]) -> Estimate:
    """What a job of these settings takes; `types` are the quantizations. Cores are taken to be one: divide by yours."""
    model = resolved.model.dimensions
    files = {name: quantized_bytes(model, name) for name in types}
    dataset_bytes = sum(dataset.size for dataset in resolved.datasets)
    tokens = int(dataset_bytes / _JSON_BYTES_PER_TOKEN * train.epochs)
    if train.max_steps is not None:
        tokens = min(tokens, train.max_steps * train.effective_batch_size * train.max_sequence_length)
    if train.method is Method.NONE:
        tokens = 0
    gguf = model.parameters * _BF16_BYTES
    disk = (
        model.bytes + 3 * gguf + sum(files.values()) + logits_bytes(model, baseline) + adapter_bytes(model, train) * 4
    )
    return Estimate(files, disk, model.bytes + dataset_bytes, tokens, _seconds(model, train, tokens, len(types)))


def quantized_bytes(model: ModelDimensions, type_: str) -> int:
    """The file's size: nominal bits per weight, more for the embeddings, a large part of a small model (P60)."""
    known = next(row for name, row in QUANTIZATIONS.items() if name.value == type_)
    embeddings = model.vocab_size * model.hidden_size
    # Smaller types keep the output matrix, which tied models share with the embeddings, as Q6_K, or as Q8_0 where its
    # rows do not fit Q6_K's blocks of 256 (P59; llama.cpp src/llama-quant.cpp).
    embedding_bits = max(known.bits_per_weight, 8.5 if model.hidden_size % 256 else 6.5625)
    rest = max(model.parameters - embeddings, 0)
    return int((rest * known.bits_per_weight + embeddings * embedding_bits) / 8)


def logits_bytes(model: ModelDimensions, baseline: BaselineSettings) -> int:
    """The baseline's logits file (P65): 16 bits for every word of the vocabulary at half of a window's positions."""
    positions = baseline.context_length - 1 - baseline.context_length // 2
    size = baseline.chunks * positions * (2 * ((model.vocab_size + 1) // 2) + 4) * 2
    return min(size, baseline.max_bytes)


def adapter_bytes(model: ModelDimensions, train: TrainSettings) -> int:
    """The adapter in 32 bits: rank times the sum of both sides of every adapted matrix; full weights in 16 bits."""
    if train.lora is None:
        return model.parameters * _BF16_BYTES if train.method is Method.FULL else 0
    attention = 2 * (model.hidden_size + model.heads * model.head_dim)
    keys_values = 2 * (model.hidden_size + model.kv_heads * model.head_dim)
    feed_forward = 3 * (model.hidden_size + model.intermediate_size)
    return 4 * train.lora.rank * model.layers * (attention + keys_values + feed_forward)


def _seconds(model: ModelDimensions, train: TrainSettings, tokens: int, types: int) -> float:
    scale = model.parameters / _REFERENCE_PARAMETERS
    cost = _FULL_COST if train.method is Method.FULL else 1.0
    training = tokens / _REFERENCE_SPEED * scale * cost
    # baseline and one pass per type read some 20,000 tokens each, imatrix twice that
    reading = (types + 3) * 20_000 / _READ_SPEED * scale
    return training + reading + (types + 6) * _START_SECONDS
