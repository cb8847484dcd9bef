"""llama-perplexity: from a GGUF and a text to perplexity, stored logits and KL divergence, parsed and checked."""

import math
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.cores import usable_cores
from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.run import Ran, run_tool
from tunesmith_trainer.llama.windows import batch_tokens

Fraction = Callable[[float], None]

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)"
# llama.cpp writes "+/-" here and the sign "±" in a KL divergence run.
_FIGURE = rf"({_NUMBER})\s*(?:±|\+/-)\s*({_NUMBER})"
_FINAL = re.compile(rf"Final estimate: PPL\s*=\s*{_FIGURE}")
_CHUNKS = re.compile(r"(?:calculating perplexity|computing) over (\d+) chunks")
_CHUNK_DONE = re.compile(rf"\[(\d+)\]({_NUMBER}),")
_TABLE_ROW = re.compile(rf"^\s*(\d+)\s+{_NUMBER}\s*±")
_TOO_SHORT = re.compile(r"tokenizes to only (\d+) tokens")
_PROBLEM = re.compile(
    r"(?:failed|inconsistent|does not look like|you need at least|unable to|error)[^\n]*", re.IGNORECASE
)

# Of tools that we have not built (see llama_cpp/flush_log_at_exit.h).
_CUT_OFF = "llama.cpp may lose the end of its output as it exits (its issue 22142): the same again comes to an end."

_MAGIC = b"_logits_"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number with its standard error, in the number's own unit."""

    value: float
    error: float

    def to_json_dict(self) -> dict[str, float]:
        """The form in figures.json."""
        return {"value": self.value, "error": self.error}


@dataclass(frozen=True, slots=True)
class Perplexity:
    """One run over a text: the perplexity, over how many windows, and the mean loss of each window (nats per token)."""

    perplexity: Figure
    chunks: int
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A quantized model against the stored logits of its baseline, token by token; KL divergences in nats.

    `increase` is PPL(Q) - PPL(base) and `log_increase` the mean of ln(PPL(Q)/PPL(base)), both with the error of the
    paired difference, which is far smaller than the errors of the two perplexities (P66). `same_top` is a fraction.
    """

    perplexity: Figure
    base_perplexity: Figure
    increase: Figure
    log_increase: Figure
    mean: Figure
    median: float
    p99: float
    maximum: float
    same_top: Figure
    chunks: int

    def to_json_dict(self) -> dict[str, Any]:
        """The form in figures.json."""
        return {
            "perplexity": self.perplexity.to_json_dict(),
            "baselinePerplexity": self.base_perplexity.to_json_dict(),
            "perplexityIncrease": self.increase.to_json_dict(),
            "logPerplexityIncrease": self.log_increase.to_json_dict(),
            "klDivergence": {
                "mean": self.mean.value,
                "error": self.mean.error,
                "median": self.median,
                "p99": self.p99,
                "max": self.maximum,
            },
            "sameTop": self.same_top.to_json_dict(),
            "gateChunks": self.chunks,
        }


@dataclass(frozen=True, slots=True)
class LogitsHeader:
    """What a file of stored logits says of itself: window length and vocabulary in tokens, number of windows."""

    context_length: int
    vocabulary: int
    chunks: int

    @property
    def file_bytes(self) -> int:
        """The size of the whole file: header, tokens, and the rows of the second half of each window (P65)."""
        return (
            20 + 4 * self.chunks * self.context_length + self.chunks * chunk_bytes(self.context_length, self.vocabulary)
        )


def chunk_bytes(context_length: int, vocabulary: int) -> int:
    """Bytes of stored logits per window: (n - 1 - n/2) rows of 16-bit values and two floats (perplexity.cpp, P65)."""
    rows = context_length - 1 - context_length // 2
    return rows * (2 * ((vocabulary + 1) // 2) + 4) * 2


def read_logits_header(path: Path) -> LogitsHeader:
    """The header of a file that llama-perplexity stored; raises ValueError for anything else and for a torn file."""
    with path.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:8] != _MAGIC:  # noqa: PLR2004  # magic and three 32-bit integers
        raise ValueError(f"{path.name} does not hold logits")
    header = LogitsHeader(*struct.unpack("<3i", head[8:]))
    if path.stat().st_size != header.file_bytes:
        raise ValueError(
            f"{path.name} has {path.stat().st_size} bytes where {header.chunks} windows take {header.file_bytes}"
        )
    return header


def parse_perplexity(output: str) -> Perplexity | None:
    """The result of a plain run, None if it came to none."""
    final, chunks = _FINAL.search(output), _CHUNKS.search(output)
    if final is None or chunks is None:
        return None
    running = [float(value) for _, value in _CHUNK_DONE.findall(output)]
    return Perplexity(Figure(float(final[1]), float(final[2])), int(chunks[1]), window_losses(running))


def window_losses(running: list[float]) -> tuple[float, ...]:
    """The loss of each window out of the perplexities of the first 1, 2, ... windows (all windows score equally many
    tokens)."""
    sums = [count * math.log(value) for count, value in enumerate(running, start=1) if value > 0]
    return tuple(after - before for before, after in zip([0.0, *sums], sums, strict=False))


def parse_divergence(output: str) -> Divergence | None:
    """The result of a run against stored logits, None if it came to none (fewer than 100 tokens print nothing)."""
    chunks = _CHUNKS.search(output)
    pairs = [_pair(output, label) for label in _PAIRED]
    singles = [_single(output, label) for label in (r"Median\s+KLD", r"99\.0%\s+KLD", r"Maximum\s+KLD")]
    same = _pair(output, r"Same top p")
    if chunks is None or same is None or None in pairs or None in singles:
        return None
    perplexity, base, increase, log_increase, mean = (pair for pair in pairs if pair is not None)
    median, p99, maximum = (single for single in singles if single is not None)
    return Divergence(
        perplexity=perplexity,
        base_perplexity=base,
        increase=increase,
        log_increase=log_increase,
        mean=mean,
        median=median,
        p99=p99,
        maximum=maximum,
        same_top=Figure(same.value / 100, same.error / 100),
        chunks=int(chunks[1]),
    )


_PAIRED = (
    r"Mean PPL\(Q\)",
    r"Mean PPL\(base\)",
    r"Mean PPL\(Q\)-PPL\(base\)",
    r"Mean ln\(PPL\(Q\)/PPL\(base\)\)",
    r"Mean\s+KLD",
)


def _pair(output: str, label: str) -> Figure | None:
    found = re.search(rf"{label}\s*:\s*{_FIGURE}", output)
    return Figure(float(found[1]), float(found[2])) if found else None


def _single(output: str, label: str) -> float | None:
    found = re.search(rf"{label}\s*:\s*({_NUMBER})", output)
    return float(found[1]) if found else None


def chunk_progress(output_line: str) -> int | None:
    """How many windows are done, of the newest line of either kind of run."""
    done = _CHUNK_DONE.findall(output_line)
    if done:
        return int(done[-1][0])
    row = _TABLE_ROW.match(output_line)
    return int(row[1]) if row else None


@dataclass(frozen=True, slots=True)
class Measuring:
    """How a text is measured: windows of `context_length` tokens, the first `chunks` of them; who is told and asked."""

    tools: Tools
    scratch: Path
    interrupted: threading.Event
    context_length: int
    chunks: int
    tell: Fraction

    def watch(self, line: str) -> None:
        """Tell how far the tool is, from the newest line of its output."""
        done = chunk_progress(line)
        if done is not None:
            self.tell(min(done / self.chunks, 1.0))


def measure_perplexity(how: Measuring, gguf: Path, text: Path, logits: Path | None = None) -> Perplexity:
    """Perplexity of `gguf` on the first windows of `text`; with `logits`, the logits are stored there too.

    The score is over the second half of each window, so only runs of one length and one text compare (P67). Raises
    DatasetTooSmall where the text has fewer than two windows, ConversionInvalid where the tool came to no result or
    to none that is a number, Internal where its output breaks off.
    """
    command = [*_common(how, gguf), "-f", text.resolve(), "--chunks", str(how.chunks)]
    if logits is not None:
        command += ["--kl-divergence-base", logits.resolve()]
    ran = run_tool(command, how.interrupted, how.scratch, how.watch)
    result = parse_perplexity(ran.output)
    if result is None or ran.code:
        raise _no_result(ran, gguf, text.name, cut_off=result is None)
    if not math.isfinite(result.perplexity.value) or len(result.losses) != result.chunks:
        raise _not_finite(gguf, result.perplexity.value)
    return result


def compare_with_baseline(how: Measuring, gguf: Path, logits: Path) -> Divergence:
    """`gguf` against the stored `logits` of its baseline, on the baseline's own tokens, in one paired run.

    Raises ArtifactCorrupt where `logits` is no whole file, ConversionInvalid where the tool came to no result, to one
    over fewer windows than are stored, or to none that is a number (it exits with 0 in all of these cases, P64),
    Internal where its output breaks off.
    """
    try:
        header = read_logits_header(logits)
    except (OSError, ValueError) as error:
        raise StageFailure(FailureClass.ARTIFACT_CORRUPT, f"the baseline's logits cannot be read: {error}") from error
    command = [*_common(how, gguf), "--kl-divergence", "--kl-divergence-base", logits.resolve()]
    ran = run_tool(command, how.interrupted, how.scratch, how.watch)
    result = parse_divergence(ran.output)
    if result is None or ran.code or result.chunks != header.chunks or "inconsistent vocabulary" in ran.output:
        raise _no_result(ran, gguf, logits.name, cut_off=result is None)
    if not all(map(math.isfinite, (result.perplexity.value, result.mean.value, result.increase.value))):
        raise _not_finite(gguf, result.perplexity.value)
    return result


def _common(how: Measuring, gguf: Path) -> list[str | Path]:
    length = how.context_length
    window = ["-c", str(length), "-b", str(batch_tokens(length))]
    return [how.tools.perplexity, "-m", gguf.resolve(), *window, "-t", str(usable_cores())]


def _no_result(ran: Ran, gguf: Path, text: str, *, cut_off: bool) -> StageFailure:
    if short := _TOO_SHORT.search(ran.output):
        message = f"{text} has {short[1]} tokens, too few to measure perplexity on (two windows at least)"
        return StageFailure(FailureClass.DATASET_TOO_SMALL, message)
    problem = _PROBLEM.findall(ran.output)
    if cut_off and not problem and ran.code == 0:
        message = f"{ran.tool} measured {gguf.name} on {text} and its output breaks off: {ran.tail(2)}"
        return StageFailure(FailureClass.INTERNAL, message, _CUT_OFF)
    why = problem[-1].strip() if problem and ran.code >= 0 else ran.tail(2)
    return StageFailure(
        FailureClass.CONVERSION_INVALID, f"{ran.tool} came to no result for {gguf.name} on {text}: {why}"
    )


def _not_finite(gguf: Path, value: float) -> StageFailure:
    return StageFailure(
        FailureClass.CONVERSION_INVALID,
        f"{gguf.name} computes no numbers: its perplexity is {value}",
        "A type whose range is too small for this model's weights does this (F16 with a bf16 model): use BF16 or Q8_0.",
    )


def paired_increase(before: Perplexity, after: Perplexity) -> dict[str, dict[str, float]]:
    """How much perplexity, and its logarithm, rose from one model to another on the same windows, with paired errors.

    The error is that of the mean of the windows' differences: what makes one window harder than another does not count.
    """
    differences = [second - first for first, second in zip(before.losses, after.losses, strict=True)]
    mean = sum(differences) / len(differences)
    spread = math.sqrt(sum((each - mean) ** 2 for each in differences) / max(len(differences) - 1, 1))
    error = spread / math.sqrt(len(differences))
    value = after.perplexity.value - before.perplexity.value
    return {
        "increase": Figure(value, after.perplexity.value * error).to_json_dict(),
        "logIncrease": Figure(mean, error).to_json_dict(),
    }
