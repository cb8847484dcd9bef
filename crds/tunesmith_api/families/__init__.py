"""From a model's configuration and chat template to what is known of its family; the facts are the YAML files here.

A fact that a file leaves empty is not known: `prepare` finds it out from the model itself or says that it could not.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, model_validator

from tunesmith_api.schema import Api

GENERIC = "generic"


class BosPolicy(StrEnum):
    """Who puts the beginning-of-text token in front of a text."""

    NEVER = "Never"
    TOKENIZER = "Tokenizer"
    MEASURED = "Measured"


class SystemPolicy(StrEnum):
    """What the chat template does with a system message."""

    NATIVE = "Native"
    MERGE = "Merge"
    MEASURED = "Measured"


class Match(Api):
    """What a model must have to be of the family; an empty list asks for nothing."""

    model_types: tuple[str, ...] = ()
    """`model_type` of config.json is one of these."""
    architectures: tuple[str, ...] = ()
    """The first of `architectures` of config.json is one of these."""
    vocab_sizes: tuple[int, ...] = ()
    """`vocab_size` of config.json is one of these: it tells apart families that share an architecture."""
    template_contains: tuple[str, ...] = ()
    """Every one of these stands in the chat template; a model without a template is not held to it."""


class LearningRates(Api):
    """The highest learning rate by training method."""

    lora: Annotated[float, Field(gt=0, le=1, alias="LoRA")]
    qlora: Annotated[float, Field(gt=0, le=1, alias="QLoRA")]
    full: Annotated[float, Field(gt=0, le=1, alias="Full")]

    def of(self, method: str) -> float:
        """The rate of the training method LoRA, QLoRA or Full; raises KeyError for another."""
        return {"LoRA": self.lora, "QLoRA": self.qlora, "Full": self.full}[method]


class TrainingDefaults(Api):
    """What training takes where the manifest says nothing."""

    epochs: Annotated[float, Field(gt=0)]
    learning_rate: LearningRates
    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Note(Api):
    """Something to mind about the family, and where that was found."""

    text: str
    source: str


class Family(Api):
    """What is known of a model family; `sources` says for every other fact where it was found."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    """The name of the file."""
    title: str
    """The name that people use."""
    match: Match
    """How its models are recognised."""
    required_tokenizer_files: tuple[str, ...]
    """Files without which llama.cpp cannot convert the tokenizer (P39)."""
    forbidden_files: tuple[str, ...]
    """Files that make llama.cpp convert the tokenizer in the wrong way (P39)."""
    eot_tokens: tuple[str, ...]
    """Tokens that end an answer; one of them must be the last that is trained (P3). Empty: found in the model."""
    stop_strings: tuple[str, ...]
    """What a Modelfile lists as stops (P69)."""
    pad_candidates: tuple[str, ...]
    """Tokens to pad with, the first that the vocabulary has and that ends no answer (P4)."""
    bos_policy: BosPolicy
    """Who puts the beginning-of-text token in front (P1)."""
    system_policy: SystemPolicy
    """What the template does with a system message (P9)."""
    default_system: str | None = None
    """The system text that the template puts where a conversation has none (P11)."""
    lora_targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """The linear layers that get an adapter, by the end of their names (P18)."""
    dtypes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Number formats that the model can be trained in; float16 only where it is known not to overflow (P19)."""
    attention: str
    """The attention implementation of transformers to train with (P20)."""
    tied_embeddings: bool | None = None
    """Whether input and output embeddings are one matrix (P33); unset: config.json says it."""
    unsloth: bool
    """Whether Unsloth may train it and its adapter still fits the original model (P17)."""
    adapter_gguf: bool
    """Whether its adapter can be given away as GGUF (P50)."""
    training: TrainingDefaults
    """What training takes where the manifest says nothing."""
    notes: tuple[Note, ...] = ()
    """Gotchas for people."""
    unknown: tuple[str, ...] = ()
    """What could not be known without the family's own data; goes into the report."""
    sources: dict[str, str]
    """Where each fact was found, by the fact's name."""

    @model_validator(mode="after")
    def _every_fact_has_a_source(self) -> Self:
        fields = {field.alias or name: name for name, field in type(self).model_fields.items()}
        facts = fields.keys() - _NO_FACTS
        stated = {fact for fact in facts if getattr(self, fields[fact]) is not None}
        if absent := stated - self.sources.keys():
            raise ValueError(f"no source for {', '.join(sorted(absent))}")
        if surplus := self.sources.keys() - facts:
            raise ValueError(f"sources name what is no fact: {', '.join(sorted(surplus))}")
        return self


_NO_FACTS = frozenset({"name", "title", "notes", "unknown", "sources"})


def names() -> tuple[str, ...]:
    """All families that have a file, sorted, the generic fallback last."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    known = {name.removesuffix(".yaml") for name in files if name.endswith(".yaml")}
    return (*sorted(known - {GENERIC}), GENERIC)


@cache
def load(name: str) -> Family:
    """The family of that name; raises KeyError if no file describes it."""
    if name not in names():
        raise KeyError(f"no family {name!r}; known are {', '.join(names())}")
    file = resources.files(__name__).joinpath(f"{name}.yaml")
    return Family.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def identify(config: Mapping[str, Any], template: str | None) -> str:
    """The name of the family of a model with this config.json and chat template; ``generic`` if none fits."""
    for name in names():
        if name != GENERIC and _fits(load(name).match, config, template):
            return name
    return GENERIC


def _fits(match: Match, config: Mapping[str, Any], template: str | None) -> bool:
    architecture = next(iter(config.get("architectures") or ()), None)
    wanted = (
        (match.model_types, config.get("model_type")),
        (match.architectures, architecture),
        (match.vocab_sizes, config.get("vocab_size")),
    )
    facts_fit = all(not allowed or value in allowed for allowed, value in wanted)
    return facts_fit and (template is None or all(part in template for part in match.template_contains))
