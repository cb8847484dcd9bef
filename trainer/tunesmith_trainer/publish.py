"""publish: measured files in, one folder to hand over out: verdicts, report, model card, Modelfiles, adapter."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import published_names
from tunesmith.json_lines import read_lines
from tunesmith.published_names import ADAPTER_FILES
from tunesmith_api import families
from tunesmith_api.gates import Verdict
from tunesmith_api.measuring import OnFailure
from tunesmith_api.quantizations import file_name
from tunesmith_api.report import BaseModelReport, FileReport, Report
from tunesmith_api.settings import PublishSettings
from tunesmith_api.stages import ArtifactReference, Kind
from tunesmith_trainer.figures_file import NAME, read_figures
from tunesmith_trainer.publication.card import model_card
from tunesmith_trainer.publication.curve import loss_curve
from tunesmith_trainer.publication.modelfile import ModelfileFacts, modelfile
from tunesmith_trainer.publication.verdicts import (
    failed_gates,
    file_verdict,
    is_published,
    job_gates,
    overall,
    reported,
)
from tunesmith_trainer.scores.scoring import lost_figures
from tunesmith_trainer.work import Outcome, Output, Work

log = logging.getLogger(__name__)

# What other stages call their files.
MODEL = "model.gguf"
ANSWERS = "answers.jsonl"
TRAINING_LOG = "log.jsonl"
DATASET_REPORT = "report.json"
TEXTS = {"gate": "gate.txt", "forgetting": "forgetting.txt"}
# What of its inputs publish reads; the files that it publishes are never fetched.
READS = (NAME, DATASET_REPORT, TRAINING_LOG, ANSWERS)


def run(work: Work) -> Outcome:
    """Judge the files and write what stands beside them; which artifact's file goes where is told, nothing is moved."""
    settings = PublishSettings.model_validate(work.request.settings)
    report = _report(work, settings)
    folder = work.scratch / "publication"
    folder.mkdir()
    files = _files(work, settings, report)
    for file in report.files:
        if file.published:
            text = modelfile(_modelfile_facts(work, settings, file))
            (folder / published_names.modelfile(file.type)).write_text(text)
    facts = _facts(work, settings, folder)
    told = json.dumps(report.to_json_dict(), indent=1, ensure_ascii=False) + "\n"
    (folder / published_names.REPORT).write_text(told)
    (folder / published_names.CARD).write_text(model_card(report, facts | {"files": files}))
    meta = {"files": {path: _place(*place) for path, place in files.items()}}
    return Outcome({Kind.PUBLICATION: Output(folder, meta)}, _headline(report, settings))


def _files(work: Work, settings: PublishSettings, report: Report) -> dict[str, tuple[ArtifactReference, str]]:
    """Paths in the published folder of files that other artifacts hold: (artifact, path in it)."""
    files = {
        file.name: (reference, MODEL)
        for file, reference in zip(report.files, _quantized(work), strict=True)
        if file.published
    }
    for reference, manifest in work.manifests.items():
        held = {entry.path for entry in manifest.files}
        if reference.kind is Kind.BASE:
            files |= {name: (reference, name) for name in published_names.licences(held)}
        if reference.kind is Kind.ADAPTER:
            for name in sorted(held.intersection(ADAPTER_FILES)):
                files[published_names.adapter_file(name)] = (reference, name)
            if TRAINING_LOG in held:
                files[published_names.TRAINING_LOG] = (reference, TRAINING_LOG)
        if reference.kind is Kind.EVALUATION and ANSWERS in held:
            files[published_names.ANSWERS] = (reference, ANSWERS)
        if reference.kind is Kind.GGUF and "adapter.gguf" in held:
            files[published_names.adapter_gguf(settings.job_name)] = (reference, "adapter.gguf")
    return files


def _place(reference: ArtifactReference, path: str) -> dict[str, str]:
    return {"kind": reference.kind.value, "key": reference.key, "path": path}


def _report(work: Work, settings: PublishSettings) -> Report:
    evaluation = _figures(work, Kind.EVALUATION)
    files = tuple(_file(work, settings, reference) for reference in _quantized(work))
    gates = tuple(reported(result) for result in job_gates(settings.gates, evaluation))
    base = work.meta[Kind.BASE]
    return Report(
        job=settings.job_name,
        verdict=overall(files, gates),
        base=BaseModelReport(name=base["name"], uri=base["uri"], revision=base.get("revision"), digest=base["digest"]),
        files=files,
        gates=gates,
        dataset=_dataset(work),
        training=_figures(work, Kind.ADAPTER),
        conversion=_figures(work, Kind.GGUF),
        baseline=_figures(work, Kind.LOGITS),
        imatrix=_figures(work, Kind.IMATRIX),
        evaluation=evaluation,
        settings=settings,
        made={_title(reference): manifest.made for reference, manifest in work.manifests.items()},
    )


def _file(work: Work, settings: PublishSettings, reference: ArtifactReference) -> FileReport:
    folder = work.named[reference.kind, str(reference.name)]
    tuned = read_lines(work.inputs[Kind.EVALUATION] / ANSWERS)
    figures = read_figures(folder) | lost_figures(
        [row["tuned"] for row in tuned], [row["answer"] for row in read_lines(folder / ANSWERS)]
    )
    gates, verdict = file_verdict(settings.gates, figures)
    entry = work.manifests[reference].entry(MODEL)
    log.info("%s: %s", reference.name, verdict)
    return FileReport(
        name=file_name(settings.job_name, str(reference.name)),
        type=str(reference.name),
        bytes=entry.size,
        sha256=entry.sha256,
        verdict=verdict,
        published=is_published(verdict, settings.gates.on_failure),
        gates=gates,
        figures=figures,
    )


def _quantized(work: Work) -> list[ArtifactReference]:
    return [reference for reference in work.request.inputs if reference.kind is Kind.QUANTIZED]


def _title(reference: ArtifactReference) -> str:
    return reference.kind.value if reference.name is None else f"{reference.kind.value}/{reference.name}"


def _figures(work: Work, kind: Kind) -> dict[str, Any]:
    folder = work.inputs.get(kind)
    return {} if folder is None or not (folder / NAME).exists() else read_figures(folder)


def _dataset(work: Work) -> dict[str, Any]:
    """The dataset's figures and report, and digests of the texts whose perplexities compare with no other text's (P67).

    Without its examples, since a report is for all to read: of the dataset's rows only the answers have some.
    """
    report: dict[str, Any] = json.loads((work.inputs[Kind.DATASET] / DATASET_REPORT).read_text(encoding="utf-8"))
    report.pop("examples", None)
    held = {
        entry.path: entry.sha256
        for reference, manifest in work.manifests.items()
        if reference.kind is Kind.DATASET
        for entry in manifest.files
    }
    texts = {name: held[path] for name, path in TEXTS.items() if path in held}
    return report | _figures(work, Kind.DATASET) | {"texts": texts}


def _modelfile_facts(work: Work, settings: PublishSettings, file: FileReport) -> ModelfileFacts:
    dataset = _figures(work, Kind.DATASET)
    family = families.load(str(dataset.get("family", families.GENERIC)))
    return ModelfileFacts(
        file=file.name,
        stops=(*family.stop_strings, *dataset.get("endOfTurn", ())),
        context_length=settings.context_length,
        system=dataset.get("systemPrompt"),
        note=f"Create it with: ollama create {settings.job_name} -f {published_names.modelfile(file.type)}",
    )


def _facts(work: Work, settings: PublishSettings, folder: Path) -> dict[str, Any]:
    """What the card says beside the report; the picture of the training goes into the folder."""
    log_rows = _training_log(work)
    picture = loss_curve(log_rows, f"{settings.job_name}: loss by step")
    if picture is not None:
        (folder / published_names.LOSS_CURVE).write_text(picture)
    rates = [row["learningRate"] for row in log_rows if row.get("learningRate")]
    base = work.meta[Kind.BASE]
    uri = str(base["uri"])
    return {
        "curve": picture is not None,
        "learning_rate": max(rates, default=None),
        "base_repo": uri.removeprefix("hf://") if uri.startswith("hf://") else None,
        "license": base.get("license"),
        "datasets": settings.datasets,
    }


def _training_log(work: Work) -> list[dict[str, Any]]:
    adapter = work.inputs.get(Kind.ADAPTER)
    return [] if adapter is None or not (adapter / TRAINING_LOG).exists() else read_lines(adapter / TRAINING_LOG)


def _headline(report: Report, settings: PublishSettings) -> Mapping[str, Any]:
    """What a status is told: it cannot read the report."""
    passed = sum(file.verdict == Verdict.PASSED for file in report.files)
    failed = failed_gates(report.files, report.gates)
    return {
        "verdict": report.verdict,
        "onFailure": OnFailure(settings.gates.on_failure).value,
        "passed": passed,
        "files": len(report.files),
        "verdicts": {file.type: file.verdict for file in report.files},
        **({"failedGates": failed} if failed else {}),
    }
