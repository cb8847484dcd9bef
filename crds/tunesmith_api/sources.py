"""Where a job's model and rows come from: `spec.model` and `spec.datasets[]`."""

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field

from tunesmith_api.placement import SecretReference
from tunesmith_api.rules import Rule, immutable, rules
from tunesmith_api.schema import Api

_SCHEMES = r"^(hf://[^/ ]+/[^/ ]+|s3://[^/ ]+/.+|https://[^/ ]+/.+|pvc://[^/ ]+/.+|file://.+)$"
SOURCE_RULE = "a source is hf://org/name, s3://bucket/key, https://host/path, pvc://claim/path or file://path"
_SOURCE_RULES = (
    Rule(f"self.matches('{_SCHEMES}')", SOURCE_RULE),
    Rule(
        "self.matches('^file://') || !self.matches('(^|/)[.][.](/|$)')",
        "only a file:// source may contain '..'",
    ),
)
SourceUri = Annotated[str, Field(min_length=6, max_length=1024, json_schema_extra=rules(*_SOURCE_RULES))]
# Addresses that mean the same on every machine.
PORTABLE = ("hf://", "https://", "s3://")


def told(uri: str) -> str:
    """A source's URI as it may be said and recorded: the query of an address can be a signature."""
    if not uri.startswith("https://"):
        return uri
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


HTTP_URL = r"^https?://[^/ ]+(/[^ ]*)?$"
HttpUrl = Annotated[str, Field(min_length=8, max_length=512, pattern=HTTP_URL)]
Template = Annotated[str, Field(min_length=1, max_length=8192)]


class ChatFormat(StrEnum):
    """How a row holds its conversation."""

    AUTO = "Auto"
    MESSAGES = "Messages"
    SHAREGPT = "ShareGPT"
    ALPACA = "Alpaca"
    PROMPT_COMPLETION = "PromptCompletion"
    TEXT = "Text"


class Model(Api):
    """The base model."""

    model_config = ConfigDict(json_schema_extra=rules(*immutable("source", "revision", "adapter")))

    source: SourceUri
    """Where the model is: hf://org/name, s3://bucket/prefix, https://host/model.tar.gz (or .tgz, .tar, .zip),
    pvc://claim/path or file://path (for local runs; from the manifest's folder unless it begins with / or ~, the home
    folder)."""
    revision: Annotated[str | None, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] = (
        None
    )
    """The branch, tag or commit of an hf:// source; unset: its main branch as it is when the job is made."""
    adapter: SourceUri | None = None
    """A LoRA adapter that training goes on from, in the adapter's own shape (of training.lora only dropout may be set),
    or that with training.method None is merged as it is."""
    secret_ref: SecretReference | None = None
    """The Secret with the key token, or accessKey and secretKey, to read the model and the adapter with."""


class Columns(Api):
    """Which column of a row holds what: a column's name, or a Jinja text with columns in it."""

    prompt: Template | None = None
    """What the user says, for example question or "{{ title }}: {{ body }}"."""
    completion: Template | None = None
    """What the model shall answer."""
    system: Template | None = None
    """The system prompt."""


class Dataset(Api):
    """One set of rows to learn from."""

    source: SourceUri
    """Where the rows are, as JSONL, JSON, CSV or Parquet: the same schemes as of model.source."""
    config: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """The configuration of an hf:// dataset that has several."""
    split: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """The split of an hf:// dataset; unset: train, or the only one."""
    format: ChatFormat = ChatFormat.AUTO
    """How a row holds its conversation; Auto finds out from the columns."""
    columns: Columns | None = None
    """The columns, where they are called otherwise than the format expects; only with the formats Auto (which is then
    PromptCompletion), PromptCompletion, and Text, whose text is completion, else prompt. A Jinja text that
    writes an empty (null) cell makes its row invalid; it may ask first: "{% if body %}{{ body }}{% endif %}"."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often the rows are seen compared with those of the other datasets."""
    max_examples: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """Takes so many rows at most, chosen by the seed."""
    endpoint: HttpUrl | None = None
    """The S3 service of an s3:// source; unset: the store's, or else what the environment names."""
    secret_ref: SecretReference | None = None
    """The Secret with the key token, or accessKey and secretKey, to read the rows with."""


# Every field of a dataset that says what its rows are; endpoint and secretRef only say how to reach them (contract 8).
_ROWS = ("source", "config", "split", "format", "columns", "weight", "maxExamples")


def same_rows(new: str, old: str) -> str:
    """CEL that is true if two datasets, named by CEL expressions, say the same rows."""
    return " && ".join(
        f"has({new}.{field}) == has({old}.{field}) && (!has({new}.{field}) || {new}.{field} == {old}.{field})"
        for field in _ROWS
    )
