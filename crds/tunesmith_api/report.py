"""What a finished job says of its files: ``report.json``, with everything that was measured."""

from typing import Any

from pydantic import Field

from tunesmith_api.schema import Recorded
from tunesmith_api.settings import PublishSettings

REPORT_VERSION = 1


class BaseModelReport(Recorded):
    """The model that it began with."""

    name: str
    """Its name."""
    uri: str
    """Where it was read from."""
    revision: str | None = None
    """The hub's commit, where there is one."""
    digest: str
    """What identifies its files."""


class GateReport(Recorded):
    """One gate of one file."""

    name: str
    """The gate's field in spec.gates; noMarkupLeaked has none, since no markup is ever right in an answer."""
    verdict: str
    """Passed, Failed or Inconclusive."""
    value: float | None = None
    """The figure, in its own unit."""
    error: float | None = None
    """Its standard error, where it has one."""
    threshold: float
    """What it was held against."""
    ideal: bool | None = None
    """Whether the stricter, ideal threshold was kept too, where there is one."""


class FileReport(Recorded):
    """One GGUF that was made."""

    name: str
    """Its name in the published folder."""
    type: str
    """Its quantization type."""
    bytes: int
    """Its size."""
    sha256: str
    """Its digest: of exactly the file that was measured."""
    verdict: str
    """The worst verdict of its gates."""
    published: bool
    """Whether it was published; a file that fails a gate is withheld unless the manifest says otherwise."""
    gates: tuple[GateReport, ...]
    """All gates."""
    figures: dict[str, Any]
    """Everything that was measured: perplexity, KL divergence, answers, loss, types of tensors."""


class Report(Recorded):
    """Everything that is known of a job's result."""

    schema_version: int = REPORT_VERSION
    """The version of this form."""
    job: str
    """The job's name."""
    verdict: str
    """The worst verdict of all files and of the job's own gates."""
    base: BaseModelReport
    """The model that it began with."""
    files: tuple[FileReport, ...]
    """Every GGUF that was made, in the manifest's order."""
    gates: tuple[GateReport, ...] = ()
    """The gates that judge the tuned model and not one file."""
    dataset: dict[str, Any] = Field(default_factory=dict)
    """The rows: how many in each part, tokens, lengths, what was left out and why, with the places of the first
    (file and line, never their content)."""
    training: dict[str, Any] = Field(default_factory=dict)
    """The training: engine, steps, losses, speed, memory."""
    conversion: dict[str, Any] = Field(default_factory=dict)
    """What the merge and the conversion were checked by."""
    baseline: dict[str, Any] = Field(default_factory=dict)
    """The bf16 GGUF that every quantization is compared with."""
    imatrix: dict[str, Any] = Field(default_factory=dict)
    """The importance matrix, where one was made."""
    evaluation: dict[str, Any] = Field(default_factory=dict)
    """Base against tuned: answers, scores with 95 % intervals, loss, what was forgotten."""
    settings: PublishSettings | None = None
    """What the files were judged by."""
    made: dict[str, Any] = Field(default_factory=dict)
    """By what each artifact was made: versions, processor, time, by kind."""
