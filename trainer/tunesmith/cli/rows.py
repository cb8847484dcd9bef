"""What prepare would say of a manifest's rows: its own check, run as a process, since it lives with the trainer."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.problems import Path as Field
from tunesmith.resolve import Fetched
from tunesmith_api import families
from tunesmith_api.effective import resolve_settings
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ModelDimensions, Resolved, ResolvedModel
from tunesmith_api.settings import PrepareSettings
from tunesmith_api.spec import FineTuneJob, OnTooLong

_DATASETS: Field = ("spec", "datasets")
_EVALUATION: Field = ("spec", "evaluation", "dataset")


@dataclass(frozen=True, slots=True)
class RowsChecked:
    """`problems` are sentences by the field whose rows they are about; `notes` say what is there."""

    problems: tuple[tuple[Field, str], ...] = ()
    notes: tuple[str, ...] = ()


def check_rows(job: FineTuneJob, model: ResolvedModel | None, fetched: Mapping[Field, Fetched]) -> RowsChecked:
    """Look at all rows of a job's datasets, which lie in local files, by the fields of the manifest.

    The rows are looked at where the `model` could not be, too. Raises `Internal` if the check itself fails.
    """
    evaluation = fetched.get(_EVALUATION)
    resolved = Resolved(
        model=model or _UNKNOWN,
        datasets=tuple(fetched[*_DATASETS, index].resolved for index in range(len(job.spec.datasets))),
        evaluation=None if evaluation is None else evaluation.resolved,
    )
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "sources"
        for field, found in fetched.items():
            for file in found.resolved.files:
                target = sources / _sub_folder(field) / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to((found.folder / file.path).resolve())
        settings = Path(folder) / "settings.json"
        values = resolve_settings(job.metadata.name, job.spec, resolved)
        settings.write_text(json.dumps(values.prepare.to_json_dict()))
        return _told(_check(sources, settings), fetched, _too_long(values.prepare))


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
        tied_embeddings=True,
        dtype="bfloat16",
        max_position_embeddings=sys.maxsize,
        **dict.fromkeys(
            ("hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim", "vocab_size"), 1
        ),
        parameters=1,
        bytes=1,
    ),
)


def _sub_folder(field: Field) -> str:
    return "evaluation" if field == _EVALUATION else str(field[-1])


def _check(sources: Path, settings: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "tunesmith_trainer.data.check", str(sources), str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError as error:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        if missing := re.fullmatch(r"ModuleNotFoundError: No module named '([\w.]+)'", last[0]):
            message = f"the rows cannot be checked without the Python package {missing[1]}"
            hint = "Install it: pip install 'tunesmith[trainer]'"
            raise StageFailure(FailureClass.TOOLS_MISSING, message, hint) from error
        raise StageFailure(FailureClass.INTERNAL, f"the rows could not be checked: {last[0]}") from error


def _too_long(settings: PrepareSettings) -> str:
    """What the counts leave out: there is no tokenizer here."""
    what = {OnTooLong.FAIL: "refuses", OnTooLong.DROP: "drops", OnTooLong.TRUNCATE_TURNS: "shortens"}
    longest = settings.max_sequence_length
    return f"Tokens are not counted here: prepare {what[settings.on_too_long]} rows of more than {longest} tokens."


def _told(found: Mapping[str, object], fetched: Mapping[Field, Fetched], too_long: str) -> RowsChecked:
    problems = found["problems"]
    if isinstance(problems, list) and problems:
        return RowsChecked(tuple((_field_of(str(problem), fetched), str(problem)) for problem in problems))
    rows = found.get("rows")
    counts = ", ".join(f"{name} {count}" for name, count in rows.items()) if isinstance(rows, dict) else ""
    formats = found.get("formats")
    kinds = " and ".join(formats) if isinstance(formats, list) else ""
    return RowsChecked(notes=(f"Rows ({kinds}): {counts}.", too_long))


def _field_of(problem: str, fetched: Mapping[Field, Fetched]) -> Field:
    """The dataset that a sentence is about: by its number, or the one that alone has the file which it begins with."""
    if named := re.match(r"no row can be read of (?:datasets\[(\d+)\]|evaluation\.dataset)", problem):
        return _EVALUATION if named[1] is None else (*_DATASETS, int(named[1]))
    holders = [
        field
        for field, found in fetched.items()
        if any(re.match(rf"{re.escape(Path(file.path).name)}[, ]", problem) for file in found.resolved.files)
    ]
    if len(holders) == 1:
        return holders[0]
    return next(iter(fetched)) if len(fetched) == 1 else _DATASETS
