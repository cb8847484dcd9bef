"""How much disk, time and space a job will take before it runs: pure functions of dimensions and settings."""

from dataclasses import dataclass

from tunesmith_api.effective import Effective
from tunesmith_api.quantizations import QUANTIZATIONS
from tunesmith_api.resolved import ModelDimensions, Resolved
from tunesmith_api.settings import BaselineSettings, TrainSettings
from tunesmith_api.sources import PORTABLE
from tunesmith_api.spec import Method
from tunesmith_api.stages import Stage, stage_of

# bf16, as base and merged model are held and converted (P34, P47).
BF16_BYTES = 2
# The adapter itself, and two checkpoints with an optimizer's state of the same size (the store keeps the newest two).
ADAPTER_COPIES = 4
# Bytes of JSON per token of English text, with names of fields and quotes: about 4 characters a token (OpenAI's
# tokenizer guide) and a fifth of a row for JSON.
_JSON_BYTES_PER_TOKEN = 5.0
# Tokens a second that one core of an AVX-512 server trains of a model of 135 million parameters by LoRA: half of what
# docs/benchmarks.md has, since rows are counted without their markup and evaluated in between. The work per token is
# proportional to the parameters.
_REFERENCE_SPEED, _REFERENCE_PARAMETERS = 100.0, 134.5e6
# Full fine-tuning computes the gradients of all weights too: 6 against 4 operations per weight and token
# (Kaplan et al. 2020, section 2.1, without the weight gradients for LoRA).
_FULL_COST = 1.5
# What llama.cpp reads of a model of this size a second and core of such a server, counted as above.
_READ_SPEED = 400.0
# How many times as long as reading it once a held-out row takes: its prompt is read, answered, and read again for the
# loss of the right answer. The quickstart's rows took 2 times with the tuned model, and 3 with the base, which goes on
# for longer.
_ANSWER_COST = 3.0
# How many times as long all of it takes on a processor that does not multiply bf16 in hardware: the quickstart of 138
# steps took 15 min 16 s on AVX2 with three types against 6 min 45 s with two (docs/benchmarks.md). Not measured with
# AVX-512 but without bf16, where training computes in fp32 too.
_WITHOUT_BF16 = 2.0
# Starting Python with torch, loading a model, writing a file: core seconds per stage on an idle machine with AVX-512.
# With them the quickstart's nine stages are estimated at 264 s there and at 530 s with AVX2; it took 234 s, and 590 to
# 655 s (docs/benchmarks.md).
_START_SECONDS = 15.0
# What a matrix becomes whose rows do not fit a type's blocks of 256 weights, by the type's beginning: the bits per
# weight of the type itself and of Q4_0 or IQ4_NL, Q5_0, Q5_1 or Q8_0 instead (P59; tensor_type_fallback in llama.cpp's
# src/llama-quant.cpp, block formats of ggml/src/ggml-common.h). None: whatever it is, 4.5 bits.
_BLOCK = 256
_INSTEAD: dict[str, tuple[float | None, float]] = {
    "Q4_K": (4.5, 5.5),
    "Q5_K": (5.5, 6.0),
    "Q6_K": (6.5625, 8.5),
    **dict.fromkeys(("Q2_", "Q3_K", "TQ", "IQ1_", "IQ2_", "IQ3_", "IQ4_XS"), (None, 4.5)),
}
# The vocabulary in a GGUF: the text of each token and merge, kind and lengths (SmolLM2: 1.8 MB for 49,152 tokens).
_BYTES_PER_WORD = 36


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the settings: the number of `rows` of the datasets, the names of the stages still `left`.

    None where it is not known: rows are then taken to be as long as they may be, and all stages to be left. `bf16` says
    whether the processor multiplies that format in hardware.
    """

    rows: int | None = None
    left: tuple[str, ...] | None = None
    bf16: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, and seconds of one core; a rough guide, measured figures are in the report.

    Files, disk and tokens are those of the whole job, `download_bytes` and `seconds` of what is left of it.
    """

    file_bytes: dict[str, int]
    disk_bytes: int
    download_bytes: int
    train_tokens: int
    seconds: float


def estimate(resolved: Resolved, values: Effective, types: tuple[str, ...], known: Known = Known()) -> Estimate:
    """What a job of these settings takes; `types` are the quantizations. Cores are taken to be one: divide by yours."""
    model = resolved.model.dimensions
    files = {name: quantized_bytes(model, name) for name in types}
    size = sum(dataset.size for dataset in resolved.datasets)
    tokens = train_tokens(size, known.rows, values.train)
    gguf = model.parameters * BF16_BYTES
    disk = (
        model.bytes
        + 3 * gguf
        + sum(files.values())
        + logits_bytes(model, values.baseline)
        + adapter_bytes(model, values.train) * ADAPTER_COPIES
    )
    left = _all_stages(types) if known.left is None else known.left
    download = _download_bytes(resolved) if Stage.PREPARE in left else 0
    training = _training_seconds(model, values.train, tokens) if Stage.TRAIN in left else 0.0
    asked = row_tokens(size, known.rows, values.train) * values.evaluate.answers.prompts
    if resolved.evaluation is None:
        asked = min(asked, size / _JSON_BYTES_PER_TOKEN)
    seconds = training + _reading_seconds(model, values, asked, left) + len(left) * _START_SECONDS
    return Estimate(files, disk, download, tokens, seconds * (1.0 if known.bf16 else _WITHOUT_BF16))


def train_tokens(dataset_bytes: int, rows: int | None, train: TrainSettings) -> int:
    """The tokens that training reads: its epochs, or maxSteps whatever the epochs are.

    A step has as many rows where several are packed into one sequence.
    """
    if train.method is Method.NONE:
        return 0
    epoch = dataset_bytes / _JSON_BYTES_PER_TOKEN
    if train.max_steps is None:
        return int(epoch * train.epochs)
    return int(train.max_steps * train.effective_batch_size * row_tokens(dataset_bytes, rows, train))


def row_tokens(dataset_bytes: int, rows: int | None, train: TrainSettings) -> float:
    """Tokens of a row: the mean of `rows`, or as many as it may have where their number is not known."""
    longest = float(train.max_sequence_length)
    return min(longest, dataset_bytes / _JSON_BYTES_PER_TOKEN / rows) if rows else longest


def quantized_bytes(model: ModelDimensions, type_: str) -> int:
    """The file's size: bits per weight, more for the embeddings, a large part of a small model (P60), and words."""
    known = next(row for name, row in QUANTIZATIONS.items() if name.value == type_)
    embeddings = model.vocab_size * model.hidden_size
    # Smaller types keep the output matrix, which tied models share with the embeddings, as Q6_K, or as Q8_0 where its
    # rows do not fit Q6_K's blocks of 256 (P59; llama.cpp src/llama-quant.cpp).
    embedding_bits = max(known.bits_per_weight, 8.5 if model.hidden_size % _BLOCK else 6.5625)
    rest = max(model.parameters - embeddings, 0)
    odd = _odd_share(model)
    rest_bits = odd * _odd_bits(type_, known.bits_per_weight) + (1 - odd) * known.bits_per_weight
    return int((rest * rest_bits + embeddings * embedding_bits) / 8) + _BYTES_PER_WORD * model.vocab_size


def _odd_share(model: ModelDimensions) -> float:
    """The share of a layer's weights in matrices whose rows do not fit blocks of 256 weights."""
    attention = model.heads * model.head_dim
    by_row_length = (
        (model.hidden_size, model.hidden_size * (attention + 2 * model.kv_heads * model.head_dim)),
        (attention, model.hidden_size * attention),
        (model.hidden_size, 2 * model.hidden_size * model.intermediate_size),
        (model.intermediate_size, model.hidden_size * model.intermediate_size),
    )
    odd = sum(weights for length, weights in by_row_length if length % _BLOCK)
    return odd / sum(weights for _, weights in by_row_length)


def _odd_bits(type_: str, bits: float) -> float:
    """Bits per weight of such a matrix; what a mix has more than its main type, it has here too."""
    found = next((row for name, row in _INSTEAD.items() if type_.startswith(name)), None)
    if found is None:
        return bits
    own, instead = found
    return max(instead, 0 if own is None else instead + bits - own)


def logits_bytes(model: ModelDimensions, baseline: BaselineSettings) -> int:
    """The baseline's logits file (P65): 16 bits for every word of the vocabulary at half of a window's positions."""
    positions = baseline.context_length - 1 - baseline.context_length // 2
    size = baseline.chunks * positions * (2 * ((model.vocab_size + 1) // 2) + 4) * 2
    return min(size, baseline.max_bytes)


def adapter_bytes(model: ModelDimensions, train: TrainSettings) -> int:
    """The adapter in 32 bits: rank times the sum of both sides of every adapted matrix; full weights in 16 bits."""
    if train.lora is None:
        return model.parameters * BF16_BYTES if train.method is Method.FULL else 0
    attention = 2 * (model.hidden_size + model.heads * model.head_dim)
    keys_values = 2 * (model.hidden_size + model.kv_heads * model.head_dim)
    feed_forward = 3 * (model.hidden_size + model.intermediate_size)
    return 4 * train.lora.rank * model.layers * (attention + keys_values + feed_forward)


def _all_stages(types: tuple[str, ...]) -> tuple[str, ...]:
    once = (Stage.PREPARE, Stage.TRAIN, Stage.CONVERT, Stage.IMATRIX, Stage.BASELINE, Stage.EVALUATE)
    return (*once, *(f"{Stage.QUANTIZE}-{name}" for name in types), Stage.PUBLISH)


def _download_bytes(resolved: Resolved) -> int:
    sizes = {resolved.model.uri: resolved.model.dimensions.bytes}
    others = (*resolved.datasets, resolved.evaluation, resolved.adapter)
    sizes |= {other.uri: other.size for other in others if other is not None}
    return sum(size for uri, size in sizes.items() if uri.startswith(PORTABLE))


def _training_seconds(model: ModelDimensions, train: TrainSettings, tokens: int) -> float:
    cost = _FULL_COST if train.method is Method.FULL else 1.0
    return tokens / _REFERENCE_SPEED * model.parameters / _REFERENCE_PARAMETERS * cost


def _reading_seconds(model: ModelDimensions, values: Effective, asked: float, left: tuple[str, ...]) -> float:
    """What llama.cpp takes for texts and for the held-out rows, which have `asked` tokens together."""
    gate = values.baseline.chunks * values.baseline.context_length
    general = values.evaluate.chunks * values.evaluate.context_length
    reads = {
        Stage.IMATRIX: values.imatrix.chunks * values.imatrix.context_length,
        Stage.BASELINE: gate,
        Stage.EVALUATE: 2 * (general + _ANSWER_COST * asked),
        Stage.QUANTIZE: gate + _ANSWER_COST * asked,
    }
    tokens = sum(reads.get(stage, 0) for stage in map(stage_of, left) if stage is not None)
    return tokens / _READ_SPEED * model.parameters / _REFERENCE_PARAMETERS
