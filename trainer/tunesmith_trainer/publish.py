"""publish: measured files in, one folder to hand over out: verdicts, report, model card, Modelfiles, adapter."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_api import families
from tunesmith_api.gates import Verdict
from tunesmith_api.measuring import OnFailure
from tunesmith_api.report import BaseModelReport, FileReport, Report
from tunesmith_api.settings import PublishSettings
from tunesmith_api.stages import ArtifactReference, Kind
from tunesmith_trainer.publication.card import model_card
from tunesmith_trainer.publication.curve import loss_curve
from tunesmith_trainer.publication.modelfile import ModelfileFacts, modelfile
from tunesmith_trainer.publication.verdicts import file_verdict, is_published, job_gates, overall, reported
from tunesmith_trainer.work import Outcome, Output, Work

log = logging.getLogger(__name__)

MODEL = "model.gguf"


def run(work: Work) -> Outcome:
    """Assemble the published folder; no GGUF is changed, each is a link to the measured one."""
    settings = PublishSettings.model_validate(work.request.settings)
    report = _report(work, settings)
    folder = work.scratch / "publication"
    folder.mkdir()
    for file, source in zip(report.files, _quantized(work), strict=True):
        if file.published:
            _place(source, folder / file.name)
            (folder / f"Modelfile.{file.type}").write_text(modelfile(_modelfile_facts(work, settings, file)))
    extras = _extras(work, settings, folder)
    (folder / "report.json").write_text(json.dumps(report.to_json_dict(), indent=1, ensure_ascii=False) + "\n")
    (folder / "README.md").write_text(model_card(report, extras))
    if settings.hub is not None:
        from tunesmith_trainer.publication.hub import push

        push(folder, settings.hub, work.secrets)
    return Outcome({Kind.PUBLICATION: Output(folder)}, _headline(report, settings))


def _report(work: Work, settings: PublishSettings) -> Report:
    evaluation = _figures(work, Kind.EVALUATION)
    files = tuple(_file(work, settings, reference) for reference in _quantized_references(work))
    gates = tuple(reported(result) for result in job_gates(settings.gates, evaluation))
    base = work.meta[Kind.BASE]
    return Report(
        job=settings.job_name,
        verdict=overall(files, gates),
        base=BaseModelReport(name=base["name"], uri=base["uri"], revision=base.get("revision"), digest=base["digest"]),
        files=files,
        gates=gates,
        dataset=_figures(work, Kind.DATASET),
        training=_figures(work, Kind.ADAPTER),
        conversion=_figures(work, Kind.GGUF),
        baseline=_figures(work, Kind.LOGITS),
        imatrix=_figures(work, Kind.IMATRIX),
        evaluation=evaluation,
        settings=settings,
        made={_title(reference): manifest.made for reference, manifest in work.manifests.items()},
    )


def _file(work: Work, settings: PublishSettings, reference: ArtifactReference) -> FileReport:
    figures = json.loads((work.named[reference.kind, str(reference.name)] / "figures.json").read_text())
    gates, verdict = file_verdict(settings.gates, figures)
    entry = work.manifests[reference].entry(MODEL)
    log.info("%s: %s", reference.name, verdict)
    return FileReport(
        name=f"{settings.job_name}-{reference.name}.gguf",
        type=str(reference.name),
        bytes=entry.size,
        sha256=entry.sha256,
        verdict=verdict,
        published=is_published(verdict, settings.gates.on_failure),
        gates=gates,
        figures=figures,
    )


def _quantized_references(work: Work) -> list[ArtifactReference]:
    return [reference for reference in work.request.inputs if reference.kind is Kind.QUANTIZED]


def _quantized(work: Work) -> list[Path]:
    return [work.named[item.kind, str(item.name)] / MODEL for item in _quantized_references(work)]


def _title(reference: ArtifactReference) -> str:
    return reference.kind.value if reference.name is None else f"{reference.kind.value}/{reference.name}"


def _figures(work: Work, kind: Kind) -> dict[str, Any]:
    folder = work.inputs.get(kind)
    path = None if folder is None else folder / "figures.json"
    return {} if path is None or not path.exists() else dict(json.loads(path.read_text()))


def _place(source: Path, target: Path) -> None:
    """The same file under another name: linked, and copied only across file systems."""
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target)


def _modelfile_facts(work: Work, settings: PublishSettings, file: FileReport) -> ModelfileFacts:
    dataset = _figures(work, Kind.DATASET)
    family = families.load(str(dataset.get("family", families.GENERIC)))
    return ModelfileFacts(
        file=file.name,
        stops=(*family.stop_strings, *dataset.get("endOfTurn", ())),
        context_length=settings.context_length,
        system=dataset.get("systemPrompt"),
        note=f"Create it with: ollama create {settings.job_name} -f Modelfile.{file.type}",
    )


def _extras(work: Work, settings: PublishSettings, folder: Path) -> dict[str, Any]:
    """Adapter, training log and loss curve go into the folder; returns what the card says of them."""
    adapter, gguf = work.inputs.get(Kind.ADAPTER), work.inputs[Kind.GGUF]
    facts: dict[str, Any] = {"adapter": False, "adapter_gguf": None, "curve": False, "training": {}}
    if adapter is not None:
        facts |= _training_extras(adapter, settings, folder)
        if (adapter / "adapter_config.json").exists():
            facts["adapter"] = True
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                _place(adapter / name, folder / "adapter" / name)
    if (gguf / "adapter.gguf").exists():
        facts["adapter_gguf"] = f"{settings.job_name}-adapter.gguf"
        _place(gguf / "adapter.gguf", folder / facts["adapter_gguf"])
    base = work.meta[Kind.BASE]
    uri = str(base["uri"])
    facts["base_repo"] = uri.removeprefix("hf://") if uri.startswith("hf://") else None
    facts["license"] = base.get("license")
    facts["dataset_digests"] = _figures(work, Kind.DATASET).get("digests", [])
    return facts


def _training_extras(adapter: Path, settings: PublishSettings, folder: Path) -> dict[str, Any]:
    path = adapter / "log.jsonl"
    if not path.exists():
        return {}
    _place(path, folder / "training-log.jsonl")
    log_rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    picture = loss_curve(log_rows, f"{settings.job_name}: loss by step")
    if picture is not None:
        (folder / "training-loss.svg").write_text(picture)
    rates = [row["learningRate"] for row in log_rows if row.get("learningRate")]
    return {"curve": picture is not None, "training": {"learningRate": max(rates, default=None)}}


def _headline(report: Report, settings: PublishSettings) -> Mapping[str, Any]:
    passed = sum(file.verdict == Verdict.PASSED for file in report.files)
    return {
        "verdict": report.verdict,
        "onFailure": OnFailure(settings.gates.on_failure).value,
        "passed": passed,
        "files": len(report.files),
    }
