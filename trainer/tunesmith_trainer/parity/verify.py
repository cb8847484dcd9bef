"""From a finished GGUF and what it was made of to what was measured of it; whatever does not agree is a failure."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cores import usable_cores
from tunesmith.llama_cpp import Tools
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.llama.gguf_file import Gguf, read_gguf
from tunesmith_trainer.llama.libllama import Model
from tunesmith_trainer.parity.logits import RIGHT, SEQUENCE, Agreement, compare, shortcomings
from tunesmith_trainer.parity.metadata import (
    end_of_text_findings,
    read_source,
    special_token_findings,
    structure_findings,
    tensor_findings,
)
from tunesmith_trainer.parity.template import template_findings
from tunesmith_trainer.parity.tokens import TokenParity

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Findings named in a failure; the log has all of them.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Intended:
    """What a GGUF has to be: made of the weights in `folder`, with this template, these ends of a turn, this BOS.

    `ends_of_turn` is empty where the model was not trained for chat: then `end_of_text` is the token that its texts
    were trained to end with, None where it was not trained at all.
    """

    folder: Path
    template: str | None
    ends_of_turn: tuple[str, ...] = ()
    bos: int | None = None
    end_of_text: int | None = None


def verify_file(path: Path, intended: Intended) -> Gguf:
    """Read `path` back and prove all that can be seen without evaluating it. Raises ConversionInvalid."""
    file = read_gguf(path)
    findings = [
        *structure_findings(file, read_source(intended.folder)),
        *tensor_findings(file),
        *special_token_findings(file, intended.ends_of_turn, intended.bos),
        *end_of_text_findings(file, intended.end_of_text),
        *template_findings(file, intended.template),
    ]
    refuse(path, findings)
    return file


def verify_logits(
    model: Model, path: Path, rows: Sequence[Sequence[int]], right: "Sequence[torch.Tensor]"
) -> Agreement:
    """Prove that llama.cpp predicts from `path` what transformers predicts; `right` holds the logits of each of `rows`.

    Raises ConversionInvalid.
    """
    found = compare(zip(right, llama_logits(model, rows), strict=True))
    refuse(path, [f"compared with transformers, {each}" for each in shortcomings(found, RIGHT)])
    return found


def verify_adapter(
    model: Model, adapter: Path, rows: Sequence[Sequence[int]], without: "Iterable[torch.Tensor]"
) -> Agreement:
    """Prove the adapter's GGUF: the merged GGUF in `model` less the adapter must predict what transformers does.

    `without` are the logits of each row by the merged model in transformers less the adapter's sums. Both have the same
    rounded weights, so that rounding is in neither's way. The base's own GGUF is not needed, which may be made already
    and lie in the store. Raises ConversionInvalid.
    """
    model.apply_adapter(adapter, -1.0)
    found = compare(zip(without, llama_logits(model, rows), strict=True))
    model.apply_adapter(adapter, 0.0)
    missed = shortcomings(found, RIGHT)
    refuse(adapter, [f"the merged model less the adapter is another one: {each}" for each in missed])
    return found


def verify_ends(model: Model, file: Gguf, ends_of_turn: Sequence[str]) -> None:
    """Prove that llama.cpp has the file's EOS and stops at every end of a turn. Raises ConversionInvalid."""
    findings = []
    if model.vocabulary.eos != file.token_id("eos"):
        findings.append(f"llama.cpp takes token {model.vocabulary.eos} for its EOS, not {file.token_id('eos')}")
    places = {token: place for place, token in enumerate(file.tokens) if token in ends_of_turn}
    findings += [f"llama.cpp does not stop at {token}" for token, at in places.items() if not model.ends_generation(at)]
    refuse(file.path, findings)


def llama_logits(model: Model, rows: Sequence[Sequence[int]]) -> "Iterator[torch.Tensor]":
    """llama.cpp's logits of each row."""
    import numpy as np
    import torch

    for row in rows:
        yield torch.from_numpy(np.concatenate(list(model.logits(row))))


def verify_tokens(path: Path, parity: TokenParity) -> dict[str, Any]:
    """The figures of a comparison of token ids. Raises ConversionInvalid where an unknown difference is among them."""
    refuse(path, parity.findings)
    return {"compared": parity.compared, "equal": parity.compared - sum(parity.known.values()), "known": parity.known}


def refuse(path: Path, findings: Sequence[str]) -> None:
    """Raise ConversionInvalid if there is any finding about the file."""
    if not findings:
        return
    for finding in findings:
        log.error("%s: %s", path.name, finding)
    more = f"; and {len(findings) - NAMED} more, see the log" if len(findings) > NAMED else ""
    raise StageFailure(FailureClass.CONVERSION_INVALID, f"{path.name}: {'; '.join(findings[:NAMED])}{more}")


def open_model(tools: Tools, path: Path) -> Model:
    """`path` in libllama, for rows of up to SEQUENCE tokens."""
    from tunesmith_trainer.llama.libllama import Options

    return Model(tools, path, Options(usable_cores(), SEQUENCE))


def agreement_figures(found: Agreement) -> dict[str, Any]:
    """As figures.json has it, with what was allowed."""
    return {
        "positions": found.positions,
        "sameTop": round(found.same_top, 5),
        "klDivergence": {"mean": found.mean_kl, "max": found.largest_kl},
        "tolerance": {"sameTop": RIGHT.same_top, "klDivergence": RIGHT.mean_kl},
    }
