"""Every field of a spec with the value that holds and where it came from, as ``tunesmith plan`` shows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api import families
from tunesmith_api.effective import train_settings
from tunesmith_api.families import Family
from tunesmith_api.measuring import EVALUATION_PERCENT, IDEAL_PERPLEXITY_INCREASE
from tunesmith_api.resolved import Resolved
from tunesmith_api.schema import Api
from tunesmith_api.settings import LoraSettings, TrainSettings
from tunesmith_api.spec import Engine, JobSpec, Lora, Method, Optimizer


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of ``tunesmith plan``: a field's path below spec, its value, and where it came from."""

    path: str
    value: Any
    origin: str


def settings_table(manifest: Mapping[str, Any], spec: JobSpec, resolved: Resolved) -> tuple[Setting, ...]:
    """Every field with its value and origin: manifest, default, family, the rule that chose it, or what unset means.

    `manifest` is what the user wrote, before any default.
    """
    family = families.load(resolved.model.family)
    written = _flat(manifest.get("spec") or {})
    rows = {setting.path: setting for setting in _unset(spec)}
    for path, value in _flat(spec.to_json_dict()).items():
        rows[path] = Setting(path, value, "manifest" if path in written else "default")
    rows |= {setting.path: setting for setting in _chosen(train_settings(spec, resolved, family), spec, family)}
    return tuple(rows[path] for path in sorted(rows) if not _has_fields(path, rows))


def _has_fields(path: str, rows: Mapping[str, Setting]) -> bool:
    """Whether the rows have fields of this object or entries of this list, which say all that there is to say of it."""
    return any(other.startswith((f"{path}.", f"{path}[")) for other in rows)


def _unset(part: Api, path: str = "") -> Iterator[Setting]:
    """Every field that is not set, with what its description says of that."""
    for name, field in type(part).model_fields.items():
        value, where = getattr(part, name), f"{path}{field.alias or name}"
        if isinstance(value, Api):
            yield from _unset(value, f"{where}.")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, Api):
                    yield from _unset(item, f"{where}[{index}].")
        elif value is None:
            _, _, meaning = (field.description or "").partition("unset: ")
            yield Setting(where, None, f"unset: {meaning.rstrip('.')}" if meaning else "unset")


def _chosen(train: TrainSettings, spec: JobSpec, family: Family) -> Iterator[Setting]:
    """The fields whose value is not the spec's own: it says nothing, or Auto, or more than there can be."""
    training = spec.training
    if spec.evaluation.dataset is None and spec.evaluation.percent is None:
        yield Setting("evaluation.percent", EVALUATION_PERCENT, "default")
    if spec.gates.ideal_perplexity_increase is None:
        ideal = spec.gates.ideal_that_holds
        origin = "limited by maxPerplexityIncrease" if ideal < IDEAL_PERPLEXITY_INCREASE else "default"
        yield Setting("gates.idealPerplexityIncrease", ideal, origin)
    if train.max_sequence_length != training.max_sequence_length:
        path = "training.maxSequenceLength"
        yield Setting(path, train.max_sequence_length, "limited by what the model can read")
    trains = train.method is not Method.NONE
    own = f"family {family.name}"
    for path, asked, value in (
        ("training.epochs", training.epochs, train.epochs),
        ("training.learningRate", training.learning_rate, train.learning_rate),
    ):
        if asked is None:
            yield Setting(path, value, own) if trains else Setting(path, None, "unset: nothing is trained")
    if trains and training.engine is Engine.AUTO:
        rule = "chosen: Unsloth where a GPU is asked for and the family allows it, else Transformers"
        yield Setting("training.engine", train.engine.value, rule)
    if trains and training.optimizer is Optimizer.AUTO:
        yield Setting("training.optimizer", train.optimizer, "chosen: PagedAdamW8bit for QLoRA on a GPU, else AdamW")
    if train.lora is not None:
        yield from _of_another(train.lora, spec, own) if spec.model.adapter else _shape(train.lora, spec, own)


def _shape(lora: LoraSettings, spec: JobSpec, own: str) -> Iterator[Setting]:
    asked = spec.training.lora or Lora()
    if asked.rank is None:
        yield Setting("training.lora.rank", lora.rank, own)
    if asked.alpha is None:
        yield Setting("training.lora.alpha", lora.alpha, f"{own}, in its ratio to the rank")
    if asked.target_modules is None:
        yield Setting("training.lora.targetModules", list(lora.target_modules), own)
    if spec.training.lora is None:
        yield Setting("training.lora.dropout", lora.dropout, own)
        yield Setting("training.lora.rsLora", lora.rs_lora, "default")


def _of_another(lora: LoraSettings, spec: JobSpec, own: str) -> Iterator[Setting]:
    """The shape of an adapter that training goes on from is not known before it is read (a rule refuses to set it)."""
    for name in ("rank", "alpha", "targetModules", "rsLora"):
        yield Setting(f"training.lora.{name}", None, "the adapter's own (model.adapter)")
    if spec.training.lora is None:
        yield Setting("training.lora.dropout", lora.dropout, own)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """The values that hold no others, by path; an empty object or list is one."""
    if isinstance(value, Mapping) and value:
        parts = [_flat(item, f"{path}.{name}" if path else name) for name, item in value.items()]
        return {name: item for part in parts for name, item in part.items()}
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        parts = [_flat(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return {name: item for part in parts for name, item in part.items()}
    return {path: value}
