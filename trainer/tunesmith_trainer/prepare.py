"""The stage `prepare`: a base model and source rows in, the prepared dataset out, and the proof that it will convert.

Everything that can be wrong with model and data is found here, before a GPU is asked for.
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.fixed_day import DATE_STRING
from tunesmith_api import families
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.families import Family
from tunesmith_api.settings import PrepareSettings
from tunesmith_api.spec import OnInvalidRows
from tunesmith_api.stages import Kind
from tunesmith_trainer.base_model import check_base_model, check_vocabulary, longest_text
from tunesmith_trainer.conversion_proof import compare_vocabulary, prove_conversion
from tunesmith_trainer.data.conversations import Example
from tunesmith_trainer.data.encode import Assigned, Encoder
from tunesmith_trainer.data.gather import Gathered, gather, merged_system, with_system
from tunesmith_trainer.data.invalid import refuse_invalid
from tunesmith_trainer.data.keep import Kept, kept
from tunesmith_trainer.data.probes import probes, text_probes
from tunesmith_trainer.data.report import dataset_report, rendered_examples, row_counts
from tunesmith_trainer.data.split import USED, Part, Split, check_sizes, rates, split, times
from tunesmith_trainer.data.system import Systems
from tunesmith_trainer.data.texts import calibration_text, forgetting_text, gate_text
from tunesmith_trainer.data.write import PartWriter
from tunesmith_trainer.engines.targets import check_folder_targets
from tunesmith_trainer.figures_file import write_figures
from tunesmith_trainer.tokenizer import Tokenizer, choose_pad, load_tokenizer
from tunesmith_trainer.work import Outcome, Output, Work


@dataclass(frozen=True, slots=True)
class Base:
    """What the base model contributes."""

    family: Family
    tokenizer: Tokenizer
    systems: Systems


@dataclass(frozen=True, slots=True)
class Written:
    """What the parts' files were filled with."""

    encoder: Encoder
    writers: dict[Part, PartWriter]
    kept: Kept


def run(work: Work) -> Outcome:
    """Prepare the dataset; raises StageFailure for everything that is wrong with model, data or settings."""
    settings = PrepareSettings.model_validate(work.request.settings)
    base = load_base(work.inputs[Kind.BASE], settings)
    work.progress(0.05)
    folder = work.scratch / "dataset"
    folder.mkdir(parents=True, exist_ok=True)
    with _proving(work) as proof:
        if targets := work.request.execution.get("loraTargets"):
            check_folder_targets(work.inputs[Kind.BASE], targets)
        figures = prepare_rows(work, settings, base, folder)
        ends = [base.tokenizer.ends[name] for name in figures["endOfTurn"]]
        figures["vocabulary"] = compare_vocabulary(_awaited(proof, work.interrupted), base.tokenizer, ends)
    write_figures(folder, figures)
    work.progress(1.0)
    headline = {name: figures[name] for name in ("trainRows", "evalRows", "gateRows", "maxLength")}
    return Outcome({Kind.DATASET: Output(folder)}, headline | {"trainTokens": figures["tokens"]["train"]})


def prepare_rows(work: Work, settings: PrepareSettings, base: Base, folder: Path) -> dict[str, Any]:
    """Everything that comes of the rows: all files of the dataset but figures.json, whose content it returns."""
    gathered = _gather(work, settings, base)
    work.progress(0.3)
    parts = split(gathered.index, settings)
    written = _write_parts(work, settings, (gathered, parts, base.tokenizer), folder)
    work.progress(0.8)
    figures = _figures(settings, base, written)
    figures["rows"] = row_counts(gathered, parts, written.encoder) | _sizes(written)
    figures["tokens"] |= _write_texts(folder, written.kept, base)
    report = dataset_report(gathered, written.encoder, figures)
    report["examples"] = rendered_examples(written.kept.examples, written.encoder)
    _write_json(folder / "report.json", report)
    return figures


def load_base(folder: Path, settings: PrepareSettings) -> Base:
    """The model's tokenizer and family; raises StageFailure for a model that cannot be used."""
    family = families.load(settings.family)
    config = check_base_model(folder, family)
    longest = longest_text(config)
    if longest is not None and settings.max_sequence_length > longest:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"training.maxSequenceLength is {settings.max_sequence_length}, but the model reads {longest} tokens",
        )
    tokenizer = load_tokenizer(folder, family)
    check_vocabulary(config, len(tokenizer.inner))
    return Base(family, tokenizer, Systems.of(tokenizer))


@contextmanager
def _proving(work: Work) -> Iterator[Future[dict[str, Any]]]:
    """llama.cpp's converter spends its seconds in a process of its own, beside the reading of the rows.

    It is ended when the reading fails.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            yield pool.submit(prove_conversion, work.tools(), work.inputs[Kind.BASE], work.scratch, stop)
        finally:
            stop.set()


def _awaited(proof: Future[dict[str, Any]], interrupted: threading.Event) -> dict[str, Any]:
    while not wait([proof], timeout=0.1).done:
        _go_on(interrupted)
    return proof.result()


def _go_on(interrupted: threading.Event) -> None:
    if interrupted.is_set():
        raise StageFailure(FailureClass.INTERRUPTED, "interrupted while the dataset was prepared")


def _gather(work: Work, settings: PrepareSettings, base: Base) -> Gathered:
    def arrange(example: Example) -> Example:
        _go_on(work.interrupted)
        if base.tokenizer.template is None and not isinstance(example, str):
            raise StageFailure(
                FailureClass.MODEL_INVALID,
                "the base model has no chat template, but the dataset has conversations",
                hint="Use the model's instruct variant, or a dataset of plain text (format: Text).",
            )
        arranged = with_system(example, settings.system_prompt)
        base.systems.see(arranged)
        return merged_system(arranged) if base.systems.merges else arranged

    gathered = gather(work.scratch / "sources", work.scratch / "rows.spool", settings, arrange)
    if settings.on_invalid_rows is OnInvalidRows.FAIL:
        refuse_invalid(gathered.tally)
    return gathered


def _write_parts(
    work: Work, settings: PrepareSettings, what: tuple[Gathered, Split, Tokenizer], folder: Path
) -> Written:
    gathered, parts, tokenizer = what
    encoder = Encoder(tokenizer, settings.max_sequence_length, settings.on_too_long)
    sample = kept(settings.seed)
    with ExitStack() as files:
        names = {part: part.name.lower() for part in USED}
        writers = {part: files.enter_context(PartWriter(folder / f"{name}.parquet")) for part, name in names.items()}
        for record in encoder.records(_assigned(work, settings, gathered, parts)):
            sample.take(record)
            for _ in range(record.origin.times):
                writers[record.origin.part].add(record)
    written = Written(encoder, writers, sample)
    longest = settings.max_sequence_length
    cure = f"Raise training.maxSequenceLength (it is {longest}), or add shorter rows"
    check_sizes(_sizes(written), f"of at most {longest} tokens", cure)
    return written


def _assigned(work: Work, settings: PrepareSettings, gathered: Gathered, parts: Split) -> Iterator[Assigned]:
    """The rows of the three parts; train rows as often as their dataset's weight says."""
    weights = {number: dataset.weight for number, dataset in enumerate(settings.datasets)}
    seen = rates(gathered.index, parts, weights)
    rows = len(gathered.index.rows)
    for place, row in enumerate(gathered):
        part = parts.of(place)
        if part not in USED:
            continue
        _go_on(work.interrupted)
        work.progress(0.3 + 0.5 * place / rows)
        digest = gathered.index.rows[place]
        count = times(seen[row.dataset], digest, settings.seed) if part is Part.TRAIN else 1
        if count:
            yield Assigned(row, part, count)


def _sizes(written: Written) -> dict[str, int]:
    return {part.name.lower(): writer.rows for part, writer in written.writers.items()}


def _write_texts(folder: Path, sample: Kept, base: Base) -> dict[str, int]:
    """Writes gate.txt, calibration.txt, forgetting.txt and probes.json; returns the tokens of the texts."""
    texts = {
        "gate": gate_text(sample.gate.texts(), base.tokenizer),
        "calibration": calibration_text(sample.calibration.texts(), base.tokenizer),
        "forgetting": forgetting_text(base.tokenizer),
    }
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text.text, encoding="utf-8", newline="")
    asked, tokenizer = sample.asked, base.tokenizer
    found = probes(asked, tokenizer, base.systems.merges) if sample.chat else text_probes(asked, tokenizer)
    _write_json(folder / "probes.json", found)
    counts = {f"{name}{kind}": n for name, t in texts.items() for kind, n in (("Own", t.own), ("General", t.general))}
    return {name: count for name, count in counts.items() if name != "forgettingOwn"}


def _figures(settings: PrepareSettings, base: Base, written: Written) -> dict[str, Any]:
    lengths, tokenizer = written.encoder.lengths, base.tokenizer
    parts = {part.name.lower(): writer for part, writer in written.writers.items()}
    names = {number: name for name, number in tokenizer.ends.items()}
    return {
        "family": base.family.name,
        "unknown": list(base.family.unknown),
        "chat": written.kept.chat,
        "tokens": {name: writer.tokens for name, writer in parts.items()}
        | {"supervised": written.writers[Part.TRAIN].supervised},
        **{f"{name}Rows": writer.rows for name, writer in parts.items()},
        "maxLength": max(writer.longest for writer in parts.values()),
        "endOfTurn": sorted(names[number] for number in lengths.ends),
        "systemPrompt": base.systems.effective(settings.system_prompt),
        "systemMerged": base.systems.merges,
        "padId": choose_pad(tokenizer, base.family, lengths.ends),
        "bosId": tokenizer.bos_id if tokenizer.adds_bos else None,
        "eosId": tokenizer.eos_id,
        "dateString": DATE_STRING,
        "tokenizerDiffers": tokenizer.differs,
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
