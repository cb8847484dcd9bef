"""From a model folder or an adapter in Hugging Face's format to a GGUF, by llama.cpp's own converter scripts."""

import json
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.run import Ran, run_tool

# What the scripts say of a model that they do not know, rather than of one that is broken: messages of
# conversion/base.py and of convert_hf_to_gguf.py.
UNSUPPORTED = re.compile(
    r"NotImplementedError|is not supported|File not found: .*tokenizer\.model|Quant method is not yet supported"
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """One call of a converter script and the file that it has to leave."""

    script: Path
    arguments: tuple[str, ...]
    outfile: Path


def model_conversion(tools: Tools, model: Path, outfile: Path, name: str, metadata: Path) -> Conversion:
    """`model` (see `conversion.model_folder`) as a bf16 GGUF called `name`, with what `metadata` (JSON) says of it."""
    options = ("--outtype", "bf16", "--outfile", str(outfile), "--model-name", name, "--metadata", str(metadata))
    return Conversion(tools.convert_hf_to_gguf, (str(model), *options), outfile)


def vocabulary_conversion(tools: Tools, model: Path, outfile: Path, name: str) -> Conversion:
    """Only the vocabulary of `model`: seconds and no weights, to learn whether llama.cpp knows its tokenizer (P38)."""
    options = ("--vocab-only", "--outfile", str(outfile), "--model-name", name)
    return Conversion(tools.convert_hf_to_gguf, (str(model), *options), outfile)


def adapter_conversion(tools: Tools, adapter: Path, base: Path, outfile: Path) -> Conversion:
    """A PEFT LoRA adapter as GGUF in float32, for the architecture of `base` (its config.json is read)."""
    options = ("--base", str(base), "--outtype", "f32", "--outfile", str(outfile))
    return Conversion(tools.convert_lora_to_gguf, (str(adapter), *options), outfile)


def convert(conversions: Sequence[Conversion], interrupted: threading.Event, folder: Path) -> None:
    """Carry out the conversions in one process; its list of jobs is written to `folder`.

    Raises ConversionUnsupported where llama.cpp does not know the model or its tokenizer, ConversionInvalid where a
    script failed otherwise or left no file.
    """
    jobs = folder / f"conversions-{conversions[0].outfile.parent.name}.json"
    jobs.write_text(json.dumps([[str(each.script), *each.arguments] for each in conversions]))
    child = "tunesmith_trainer.llama.convert_child"
    ran = run_tool([sys.executable, "-P", "-m", child, str(jobs)], interrupted, folder)
    # The exit code proves nothing (invariant 4 of the design), the file's absence does.
    absent = [each.outfile.name for each in conversions if not each.outfile.is_file()]
    if ran.code or absent:
        raise _failure(ran, absent)


def _failure(ran: Ran, absent: Sequence[str]) -> StageFailure:
    said = ran.tail(3)
    if UNSUPPORTED.search(ran.output):
        return StageFailure(FailureClass.CONVERSION_UNSUPPORTED, f"llama.cpp cannot convert this model: {said}")
    return StageFailure(FailureClass.CONVERSION_INVALID, f"llama.cpp's converter made no {', '.join(absent)}: {said}")
