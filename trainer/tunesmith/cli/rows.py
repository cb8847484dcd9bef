"""What prepare would say of a manifest's rows: its own check, run as a process, since it lives with the trainer."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.extras import install_command
from tunesmith.resolve import Fetched
from tunesmith_api import families
from tunesmith_api.effective import resolve_settings
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.fields import Field, spell
from tunesmith_api.resolved import ModelDimensions, Resolved, ResolvedModel
from tunesmith_api.settings import PrepareSettings
from tunesmith_api.spec import EVALUATION_PERCENT, Evaluation, FineTuneJob, JobSpec, Method, OnTooLong, Training

_DATASETS: Field = ("spec", "datasets")
_EVALUATION: Field = ("spec", "evaluation", "dataset")
# The largest share that is allowed (50 %), written as a fraction.
_MOST_SHARE = 0.5
# Beside the counts, where the manifest names more datasets than could be looked at.
_PARTS_UNKNOWN = "How many rows are held out, and whether they are enough, is not known without the other datasets."


@dataclass(frozen=True, slots=True)
class RowsProblem:
    """What is wrong with rows: the field that they are of, a sentence with its class, and what helps."""

    place: Field
    what: str
    right: str


@dataclass(frozen=True, slots=True)
class RowsChecked:
    """What is wrong with rows; `notes` say what is there."""

    problems: tuple[RowsProblem, ...] = ()
    notes: tuple[str, ...] = ()


def check_rows(job: FineTuneJob, model: ResolvedModel | None, fetched: Mapping[Field, Fetched]) -> RowsChecked:
    """Look at the rows of those datasets of a job that lie in local files, by the fields of the manifest.

    They are looked at where the `model`, or another dataset, could not be, too; whether there are enough is said only
    if all are there. Raises `Internal` if the check itself fails.
    """
    here = [field for field in fetched if field != _EVALUATION]
    spec, whole = _spec_of_those(job, here, held_out=_EVALUATION in fetched)
    resolved = Resolved(
        model=model or _UNKNOWN,
        datasets=tuple(fetched[field].resolved for field in here),
        evaluation=fetched[_EVALUATION].resolved if _EVALUATION in fetched else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "sources"
        for field, found in fetched.items():
            number = "evaluation" if field == _EVALUATION else str(here.index(field))
            for file in found.resolved.files:
                target = sources / number / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to((found.folder / file.path).resolve())
        settings = Path(folder) / "settings.json"
        values = resolve_settings(job.metadata.name, spec, resolved)
        settings.write_text(json.dumps(values.prepare.to_json_dict()))
        flags = [] if whole else ["--part-of-a-job"]
        told = _check(sources, settings, *flags)
    checked = _told(told, fetched, _too_long(values.prepare))
    if not checked.notes:
        return checked
    if not whole:
        return replace(checked, notes=(*checked.notes, _PARTS_UNKNOWN))
    said = (*_held_out(told, spec.evaluation), *_one_step(told, spec.training))
    return replace(checked, notes=(*checked.notes, *said))


def _spec_of_those(job: FineTuneJob, here: Sequence[Field], *, held_out: bool) -> tuple[JobSpec, bool]:
    """The spec with only the datasets of these fields, and whether they are all of them."""
    spec = job.spec
    evaluation = spec.evaluation if held_out else spec.evaluation.model_copy(update={"dataset": None})
    datasets = tuple(spec.datasets[int(field[-1])] for field in here)
    whole = len(datasets) == len(spec.datasets) and evaluation == spec.evaluation
    return spec.model_copy(update={"datasets": datasets, "evaluation": evaluation}), whole


# Stands for a model that cannot be reached: nothing of it decides whether rows can be read.
_UNKNOWN = ResolvedModel(
    uri="",
    name="",
    digest="",
    family=families.GENERIC,
    chat=True,
    dimensions=ModelDimensions(
        architecture="",
        model_type="",
        dtype="bfloat16",
        max_position_embeddings=sys.maxsize,
        **dict.fromkeys(
            ("hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim", "vocab_size"), 1
        ),
        parameters=1,
        bytes=1,
    ),
)


def _check(sources: Path, settings: Path, *flags: str) -> dict[str, object]:
    command = [sys.executable, "-m", "tunesmith_trainer.data.check", str(sources), str(settings), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError as error:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        if missing := re.fullmatch(r"ModuleNotFoundError: No module named '([\w.]+)'", last[0]):
            message = f"the rows cannot be checked without the Python package {missing[1]}"
            hint = f"Install it: {install_command('trainer')}"
            raise StageFailure(FailureClass.TOOLS_MISSING, message, hint) from error
        raise StageFailure(FailureClass.INTERNAL, f"the rows could not be checked: {last[0]}") from error


def _too_long(settings: PrepareSettings) -> str:
    """What the counts leave out: there is no tokenizer here."""
    what = {OnTooLong.FAIL: "refuses", OnTooLong.DROP: "drops", OnTooLong.TRUNCATE_TURNS: "shortens"}
    longest = settings.max_sequence_length
    return f"Tokens are not counted here: prepare {what[settings.on_too_long]} rows of more than {longest} tokens."


def _held_out(found: Mapping[str, object], asked: Evaluation) -> Iterator[str]:
    """Where fewer or more is held out than was asked for; of the default number of prompts nothing is said."""
    rows, prompts = found["rows"], found["prompts"]
    if not isinstance(rows, dict) or not isinstance(prompts, int):
        return
    every = sum(rows[part] for part in ("train", "eval", "gate"))
    percent = EVALUATION_PERCENT if asked.percent is None else asked.percent
    wanted = round(every * percent / 100)
    if asked.dataset is None and wanted < rows["eval"]:
        # Mostly a share was meant then, as other tools ask for it.
        end = f"; did you mean {percent * 100:g}?" if percent <= _MOST_SHARE else "."
        what = f"evaluation.percent {percent:g} of {every} rows is {wanted}"
        yield f"{what}, but {rows['eval']} are held out, which is the least{end}"
    if "prompts" in asked.model_fields_set and prompts < asked.prompts:
        yield f"evaluation.prompts is {asked.prompts}, but {prompts} different prompts are held out: all are answered."


def _one_step(found: Mapping[str, object], asked: Training) -> Iterator[str]:
    """Where one step takes all rows there are: the learning rate then has one or few steps to do its work."""
    rows = found["rows"]
    if isinstance(rows, dict) and asked.method is not Method.NONE and rows["train"] < asked.effective_batch_size:
        size = f"training.effectiveBatchSize is {asked.effective_batch_size}, but there are {rows['train']} rows"
        yield f"{size} to train on: an epoch is a single step."


def _told(found: Mapping[str, object], fetched: Mapping[Field, Fetched], too_long: str) -> RowsChecked:
    problems = found["problems"]
    if isinstance(problems, list) and problems:
        return RowsChecked(tuple(_problem(problem, fetched) for problem in problems))
    rows = found.get("rows")
    counts = ", ".join(f"{name} {count}" for name, count in rows.items()) if isinstance(rows, dict) else ""
    formats = found.get("formats")
    kinds = " and ".join(formats) if isinstance(formats, list) else ""
    return RowsChecked(notes=(f"Rows ({kinds}): {counts}.", too_long))


# Without a readable row a dataset is named by its number among those that were looked at.
_UNREADABLE = re.compile(r"no row can be read of (?:datasets\[(\d+)\]|evaluation\.dataset)")


def _problem(told: Mapping[str, object], fetched: Mapping[Field, Fetched]) -> RowsProblem:
    """With the field: the check knows a dataset by its number among those that were looked at, and some not at all."""
    place, what = _placed(str(told["what"]), fetched)
    if isinstance(number := told["dataset"], int):
        place = _field(number, fetched)
    return RowsProblem(place, f"{told['class']}: {what}", str(told["right"]))


def _field(number: int, fetched: Mapping[Field, Fetched]) -> Field:
    """Of the dataset that has this number among those that were looked at; the evaluation dataset has none."""
    return [field for field in fetched if field != _EVALUATION][number] if number >= 0 else _EVALUATION


def _placed(problem: str, fetched: Mapping[Field, Fetched]) -> tuple[Field, str]:
    """The dataset that a sentence is about, by its number or by the file that it alone has, and the sentence."""
    if named := _UNREADABLE.match(problem):
        field = _EVALUATION if named[1] is None else _field(int(named[1]), fetched)
        return field, f"no row can be read of {spell(field[1:])}{problem[named.end() :]}"
    holders = [
        field
        for field, found in fetched.items()
        if any(
            re.match(rf"(?:the dataset's file )?{re.escape(Path(file.path).name)}[, ]", problem)
            for file in found.resolved.files
        )
    ]
    if len(holders) == 1:
        return holders[0], problem
    return next(iter(fetched)) if len(fetched) == 1 else _DATASETS, problem
