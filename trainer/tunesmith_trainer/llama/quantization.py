"""llama-quantize: from a 16-bit GGUF to one of another type, and from what was made to whether it is what was asked."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.cores import usable_cores
from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.quantizations import QUANTIZATIONS, QuantizationType
from tunesmith_trainer.llama.gguf_file import Gguf
from tunesmith_trainer.llama.run import Ran, Watch, run_tool, without_watching

# GGML_QNT_VERSION of ggml.h: the layout of the quantized blocks that this llama.cpp writes and reads.
QUANTIZATION_VERSION = 2

# Written by llama-quantize itself; everything else is to be as it was in the 16-bit file (P59, P82).
OWN_KEYS = frozenset({"general.file_type", "general.quantization_version"})
OWN_PREFIX = "quantize.imatrix."

_MIB = 1024 * 1024
_TENSOR = re.compile(
    r"^\[\s*(\d+)/\s*(\d+)\] (\S+)\s+- \[[^\]]*\], type =\s*(\w+),[^\n]*?(?:\((\w+)\))?$", re.MULTILINE
)
_STEP = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
_FALLBACK = re.compile(r"warning: (\S+)\s+- ncols\s+\d+ not divisible[^\n]*type\s+(\w+)\)[^\n]*falling back to\s+(\w+)")
_SIZE = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
_NO_WEIGHTS = re.compile(r"did not find weights for (\S+)")
_OTHER_SIZE = re.compile(r"imatrix size (\d+) is different from tensor size (\d+) for (\S+)")
_WHY = re.compile(r"failed to quantize: ([^\n]*)")

# No importance is collected for them unless asked, and none is wanted where they are tied (P54).
_WITHOUT_IMPORTANCE = re.compile(r"^(token_embd|output|per_layer_token_embd)\.weight$")


@dataclass(frozen=True, slots=True)
class Fallback:
    """A tensor whose rows do not fit the wanted type's blocks (P59), so that another type was taken for it."""

    tensor: str
    wanted: str
    taken: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What llama-quantize says it will make: each tensor's type, the sum of their sizes, who falls back to what."""

    tensor_types: Mapping[str, str]
    bytes: int
    fallbacks: tuple[Fallback, ...]


@dataclass(frozen=True, slots=True)
class Quantizing:
    """One call of llama-quantize: from `source` to `type`, with `imatrix` where there is one."""

    tools: Tools
    source: Path
    type: QuantizationType
    imatrix: Path | None
    scratch: Path
    interrupted: threading.Event


def plan_quantization(how: Quantizing) -> Plan:
    """Ask what would be made, in seconds and without writing; raises ConversionInvalid where llama-quantize refuses."""
    ran = _quantize(how, ["--dry-run"], [how.source.resolve()])
    plan = parse_plan(ran.output)
    if plan is None or ran.code:
        raise _refused(how, ran)
    return plan


def quantize(how: Quantizing, into: Path, watch: Watch = without_watching) -> tuple[str, ...]:
    """Write the quantized file to `into`; answers the names of tensors that got no importance though it was given.

    Whether the file is what was asked is for `mistakes` to say. Raises SpecInvalid where the type cannot be made
    without an importance matrix, ConversionInvalid where llama-quantize refuses or the matrix does not fit, DiskFull.
    """
    ran = _quantize(how, [], [how.source.resolve(), into.resolve()], watch)
    if ran.code:
        raise _refused(how, ran)
    if wrong := _OTHER_SIZE.search(ran.output):
        raise StageFailure(
            FailureClass.CONVERSION_INVALID,
            f"the importance matrix is of another model: {wrong[3]} has {wrong[2]} columns, the matrix {wrong[1]}",
        )
    return without_importance(ran.output)


def _quantize(how: Quantizing, options: list[str], files: list[Path], watch: Watch = without_watching) -> Ran:
    # The matrix is named relative to its folder, since its name is written into the file (P74); options come before
    # the positionals, or they are taken for one (P58).
    folder = how.scratch
    if how.imatrix is not None:
        folder = how.imatrix.parent
        options = [*options, "--imatrix", how.imatrix.name]
    command = [how.tools.quantize, *options, *files, how.type.value, str(usable_cores())]
    return run_tool(command, how.interrupted, folder, watch)


def _refused(how: Quantizing, ran: Ran) -> StageFailure:
    why = _WHY.search(ran.output)
    reason = why[1].strip() if why else ran.tail(3)
    if "requires an imatrix" in reason or "Missing importance matrix" in reason:
        named = "lacks entries" if how.imatrix else "is not there"
        return StageFailure(
            FailureClass.CONVERSION_INVALID if how.imatrix else FailureClass.SPEC_INVALID,
            f"{how.type} cannot be made without an importance matrix, which {named}: {reason}",
            "Set spec.imatrix.mode to Auto, or choose a type of more bits.",
        )
    if "iostream error" in reason or "No space left" in ran.output:
        return StageFailure(FailureClass.DISK_FULL, f"there is no disk space left to write {how.type}")
    if "no tensor type fallback" in reason:
        message = f"{how.type} cannot be made of this model, whose rows do not fit its blocks: {reason}"
        return StageFailure(FailureClass.CONVERSION_UNSUPPORTED, message, "Choose another type.")
    return StageFailure(FailureClass.CONVERSION_INVALID, f"llama-quantize does not make {how.type}: {reason}")


def step_fraction(line: str) -> float | None:
    """The share of the tensors that the newest line says are done."""
    step = _STEP.match(line)
    return int(step[1]) / int(step[2]) if step else None


def parse_plan(output: str) -> Plan | None:
    """What a dry run says; None if it names no size or not every tensor."""
    size, rows = _SIZE.search(output), _TENSOR.findall(output)
    if size is None or not rows or len(rows) != int(rows[0][1]):
        return None
    types = {name: (after or before).upper() for _, _, name, before, after in rows}
    return Plan(types, round(float(size[1]) * _MIB), parse_fallbacks(output))


def parse_fallbacks(output: str) -> tuple[Fallback, ...]:
    """The tensors that llama-quantize warns about, with the type that was wanted and the one that was taken."""
    return tuple(Fallback(name, wanted.upper(), taken.upper()) for name, wanted, taken in _FALLBACK.findall(output))


def without_importance(output: str) -> tuple[str, ...]:
    """Tensors that were quantized without importance though a matrix was given; those that never have any left out."""
    return tuple(name for name in _NO_WEIGHTS.findall(output) if not _WITHOUT_IMPORTANCE.match(name))


def mistakes(made: Gguf, source: Gguf, wanted: QuantizationType, plan: Plan) -> list[str]:
    """How a quantized file differs from what was asked, read back from the file itself; empty if it does not (P82)."""
    found = []
    named = made.metadata.get("general.file_type")
    if named != QUANTIZATIONS[wanted].ftype:
        found.append(f"general.file_type is {named}, {wanted} is {QUANTIZATIONS[wanted].ftype}")
    version = made.metadata.get("general.quantization_version")
    if version != QUANTIZATION_VERSION:
        found.append(f"general.quantization_version is {version}, not {QUANTIZATION_VERSION}")
    shapes = {name: tensor.shape for name, tensor in made.tensors.items()}
    if shapes != {name: tensor.shape for name, tensor in source.tensors.items()}:
        found.append("its tensors have not the names and shapes of the 16-bit file's")
    types = {name: tensor.type for name, tensor in made.tensors.items()}
    if others := sorted(name for name in types if types[name] != plan.tensor_types.get(name)):
        first = others[0]
        found.append(
            f"{len(others)} tensors are not of the planned type: {first} is {types[first]}, "
            f"planned {plan.tensor_types.get(first)}"
        )
    return found + changed_metadata(made.metadata, source.metadata)


def changed_metadata(made: Mapping[str, Any], source: Mapping[str, Any]) -> list[str]:
    """What is not as in the 16-bit file though quantizing has no business with it: template, end tokens, vocabulary."""

    def own(key: str) -> bool:
        return key in OWN_KEYS or key.startswith(OWN_PREFIX)

    keys = sorted({key for key in made.keys() | source.keys() if not own(key) and made.get(key) != source.get(key)})
    leaks = [key for key, value in made.items() if own(key) and isinstance(value, str) and "/" in value]
    return [f"{key} is not that of the 16-bit file" for key in keys] + [f"{key} names a path" for key in leaks]


def shape_of(made: Gguf, plan: Plan) -> dict[str, Any]:
    """The figures of a quantized file itself: size, real bits per weight, the types of its tensors, the fallbacks.

    `bitsPerWeight` counts the tensors' bytes only, as llama.cpp does; `fallbacks.share` is of all weights.
    """
    weights = sum(tensor.elements for tensor in made.tensors.values())
    types: dict[str, int] = {}
    for tensor in made.tensors.values():
        types[tensor.type] = types.get(tensor.type, 0) + 1
    fallen = sum(made.tensors[fallback.tensor].elements for fallback in plan.fallbacks)
    return {
        "fileType": made.metadata["general.file_type"],
        "bytes": made.size,
        "parameters": weights,
        "bitsPerWeight": sum(tensor.bytes for tensor in made.tensors.values()) * 8 / weights,
        "tensorTypes": dict(sorted(types.items())),
        "fallbacks": {
            "tensors": len(plan.fallbacks),
            "of": len(made.tensors),
            "share": fallen / weights,
            "types": sorted({f"{fallback.wanted} -> {fallback.taken}" for fallback in plan.fallbacks}),
            "names": [fallback.tensor for fallback in plan.fallbacks],
        },
    }
