"""The stages of a job as a DAG: a pure function of spec, resolved sources and what is already recorded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tunesmith_api import effective
from tunesmith_api.effective import Effective
from tunesmith_api.keys import artifact_key, fingerprint
from tunesmith_api.quantizations import QUANTIZATIONS
from tunesmith_api.resolved import Resolved
from tunesmith_api.schema import Api
from tunesmith_api.spec import ImatrixMode, JobSpec, Method
from tunesmith_api.stages import ArtifactReference, Kind, Stage
from tunesmith_api.status import RecordedKeys


class PlannedStage(Api):
    """One node: what it reads, makes and is told, and the names of the stages that must be done before it."""

    name: str
    stage: Stage
    variant: str | None = None
    inputs: tuple[ArtifactReference, ...]
    outputs: tuple[ArtifactReference, ...]
    settings: dict[str, object]
    asked: str
    needs: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key of what the stage is for, its first output."""
        return self.outputs[0].key

    def recorded_keys(self) -> RecordedKeys:
        """What a status keeps of it once it has a Job or a result."""
        return RecordedKeys(asked=self.asked, outputs={output.kind.value: output.key for output in self.outputs})


class Plan(Api):
    """All stages, each after everything that it needs."""

    stages: tuple[PlannedStage, ...]

    def stage(self, name: str) -> PlannedStage:
        """The stage of that name; KeyError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def keys(self) -> Iterator[tuple[str, str]]:
        """(kind, key) of everything that the plan makes."""
        for stage in self.stages:
            for output in stage.outputs:
                yield output.kind.value, output.key


# What enters the keys of these stages cannot be changed once the job exists (contract 8), so that a recorded key
# always holds; the others may be asked for something else, and keep their key only while they are not.
_IMMUTABLE = frozenset({Stage.PREPARE, Stage.TRAIN, Stage.CONVERT})


@dataclass(frozen=True, slots=True)
class _Call:
    """What a stage is about to be planned with; `made_of` are the inputs that its output follows from."""

    stage: Stage
    kind: Kind
    settings: Api
    inputs: tuple[ArtifactReference, ...]
    needs: tuple[str, ...]
    made_of: Mapping[str, str]
    variant: str | None = None
    also: tuple[ArtifactReference, ...] = ()


@dataclass(frozen=True, slots=True)
class _Keys:
    """Recorded keys by stage name; they win over newly computed ones (contract 2)."""

    recorded: Mapping[str, RecordedKeys]

    def choose(self, name: str, kind: Kind, settings: Api | None, inputs: Mapping[str, str]) -> str:
        known = self.recorded.get(name)
        kept = known and known.outputs.get(kind.value)
        if known and kept and (name in _IMMUTABLE or known.asked == fingerprint(settings, inputs)):
            return kept
        return artifact_key(kind, settings, inputs)

    def mirrored(self, kind: Kind, source: str, digest: str) -> ArtifactReference:
        """What prepare brings into the store as it is: keyed by its source's digest alone."""
        known = self.recorded.get(Stage.PREPARE)
        kept = known and known.outputs.get(kind.value)
        return ArtifactReference(kind=kind, key=kept or artifact_key(kind, None, {}, {source: digest}))


def make_plan(
    job_name: str, spec: JobSpec, resolved: Resolved, recorded: Mapping[str, RecordedKeys] | None = None
) -> Plan:
    """The DAG of a job.

    `recorded` says which stages have a result, and under which keys: such a stage keeps them, so that a new recipe
    reaches only what was not made yet.
    """
    values = effective.resolve_settings(job_name, spec, resolved)
    keys = _Keys(recorded or {})
    stages = [_prepare(values, resolved, keys)]
    trained = values.train.method is not Method.NONE
    if trained:
        stages.append(_train(values, stages[0], keys))
    stages.append(_convert(values, stages, keys))
    gguf = stages[-1]
    tuned, rows = gguf.outputs[0], stages[0].outputs[0]
    imatrix = None
    if uses_imatrix(spec.imatrix.mode, spec.quantizations):
        imatrix = _after_convert((Stage.IMATRIX, Kind.IMATRIX, values.imatrix), (tuned, rows), keys)
        stages.append(imatrix)
    baseline = _after_convert((Stage.BASELINE, Kind.LOGITS, values.baseline), (tuned, rows), keys)
    stages.append(baseline)
    evaluated = (*gguf.outputs, rows)
    stages.append(_after_convert((Stage.EVALUATE, Kind.EVALUATION, values.evaluate), evaluated, keys))
    reads = (gguf, stages[0], baseline, imatrix)
    stages += [_quantize(values, type_, reads, keys) for type_ in spec.quantizations]
    stages.append(_publish(values, stages, keys))
    return Plan(stages=tuple(stages))


def uses_imatrix(mode: ImatrixMode, types: tuple[str, ...]) -> bool:
    """Whether any type of the job is made with an importance matrix."""
    return any(_with_imatrix(mode, type_) for type_ in types)


def _with_imatrix(mode: ImatrixMode, type_: str) -> bool:
    known = next(row for name, row in QUANTIZATIONS.items() if name.value == type_)
    if mode is ImatrixMode.ALWAYS:
        return True
    return mode is ImatrixMode.AUTO and (known.needs_imatrix or known.gains_from_imatrix)


def _planned(call: _Call, keys: _Keys) -> PlannedStage:
    name = stage_name(call.stage, call.variant)
    key = keys.choose(name, call.kind, call.settings, call.made_of)
    return PlannedStage(
        name=name,
        stage=call.stage,
        variant=call.variant,
        inputs=call.inputs,
        outputs=(ArtifactReference(kind=call.kind, key=key, name=call.variant), *call.also),
        settings=call.settings.to_json_dict(),
        asked=fingerprint(call.settings, call.made_of),
        needs=call.needs,
    )


def _prepare(values: Effective, resolved: Resolved, keys: _Keys) -> PlannedStage:
    base = keys.mirrored(Kind.BASE, "model", resolved.model.digest)
    brought = resolved.adapter
    adapter = () if brought is None else (keys.mirrored(Kind.ADAPTER, "adapter", brought.digest),)
    made_of = {Kind.BASE.value: base.key}
    return _planned(_Call(Stage.PREPARE, Kind.DATASET, values.prepare, (), (), made_of, also=(base, *adapter)), keys)


def _train(values: Effective, prepare: PlannedStage, keys: _Keys) -> PlannedStage:
    """Training goes on from somebody else's adapter, where prepare has brought one."""
    dataset, base, *adapter = prepare.outputs
    inputs = (base, dataset, *adapter)
    call = _Call(Stage.TRAIN, Kind.ADAPTER, values.train, inputs, (Stage.PREPARE,), _by_kind(inputs))
    return _planned(call, keys)


def _convert(values: Effective, before: list[PlannedStage], keys: _Keys) -> PlannedStage:
    dataset, base, *brought = before[0].outputs
    trained = before[-1].stage is Stage.TRAIN
    weights = (base, before[-1].outputs[0]) if trained else (base, *brought)
    untouched = keys.choose(Stage.CONVERT, Kind.BASE_GGUF, None, {Kind.BASE.value: base.key})
    also = (ArtifactReference(kind=Kind.BASE_GGUF, key=untouched),)
    # The GGUF's EOS is what ends a turn in the prepared rows. A trained adapter's key holds theirs; one that was
    # brought along, or none, says nothing of them.
    made_of = _by_kind(weights if trained else (*weights, dataset))
    call = _Call(Stage.CONVERT, Kind.GGUF, values.convert, (*weights, dataset), (before[-1].name,), made_of, also=also)
    return _planned(call, keys)


def _after_convert(call: tuple[Stage, Kind, Api], inputs: tuple[ArtifactReference, ...], keys: _Keys) -> PlannedStage:
    stage, kind, settings = call
    return _planned(_Call(stage, kind, settings, inputs, (Stage.CONVERT,), _by_kind(inputs)), keys)


def _quantize(values: Effective, type_: str, reads: tuple[PlannedStage | None, ...], keys: _Keys) -> PlannedStage:
    gguf, prepare, baseline, imatrix = reads
    if not (gguf and prepare and baseline):
        raise ValueError(type_)
    used = [gguf, prepare, baseline] + ([imatrix] if imatrix and _with_imatrix(values.imatrix_mode, type_) else [])
    inputs = tuple(stage.outputs[0] for stage in used)
    needs = tuple(stage.name for stage in used[2:])
    settings = values.quantize(type_)
    return _planned(
        _Call(Stage.QUANTIZE, Kind.QUANTIZED, settings, inputs, needs, _by_kind(inputs), variant=type_), keys
    )


def _publish(values: Effective, before: list[PlannedStage], keys: _Keys) -> PlannedStage:
    outputs = [output for stage in before for output in stage.outputs if output.kind is not Kind.BASE_GGUF]
    # A trained adapter supersedes the imported one that it went on from.
    superseded = [output for output in outputs if output.kind is Kind.ADAPTER][:-1]
    inputs = tuple(output for output in outputs if output not in superseded)
    made_of = {f"{item.kind.value}/{item.name}" if item.name else item.kind.value: item.key for item in inputs}
    needs = tuple(stage.name for stage in before if stage.stage in (Stage.EVALUATE, Stage.QUANTIZE))
    return _planned(_Call(Stage.PUBLISH, Kind.PUBLICATION, values.publish, inputs, needs, made_of), keys)


def stage_name(stage: Stage, variant: str | None = None) -> str:
    """What a stage is called in status, logs and messages: ``quantize-Q4_K_M``."""
    return stage.value if variant is None else f"{stage.value}-{variant}"


def _by_kind(inputs: tuple[ArtifactReference, ...]) -> dict[str, str]:
    return {item.kind.value: item.key for item in inputs}
