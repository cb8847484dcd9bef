"""What prepare would say of a manifest's rows: its own check, run as a process, since it lives with the trainer."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tunesmith.resolve import Access, resolve_dataset
from tunesmith_api.effective import resolve_settings
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import Resolved
from tunesmith_api.spec import FineTuneJob


def check_rows(job: FineTuneJob, resolved: Resolved, access: Access) -> list[str]:
    """Notes on rows that can be used; `DatasetInvalid` with every place where they cannot."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "sources"
        datasets = {str(index): dataset for index, dataset in enumerate(job.spec.datasets)}
        if job.spec.evaluation.dataset is not None:
            datasets["evaluation"] = job.spec.evaluation.dataset
        for name, dataset in datasets.items():
            fetched = resolve_dataset(dataset, access)
            for file in fetched.resolved.files:
                target = sources / name / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to((fetched.folder / file.path).resolve())
        settings = Path(folder) / "settings.json"
        values = resolve_settings(job.metadata.name, job.spec, resolved)
        settings.write_text(json.dumps(values.prepare.to_json_dict()))
        return _told(_check(sources, settings))


def _check(sources: Path, settings: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "tunesmith_trainer.data.check", str(sources), str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError as error:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        message = f"the rows could not be checked: {last[0]}"
        raise StageFailure(FailureClass.INTERNAL, message) from error


def _told(found: dict[str, object]) -> list[str]:
    problems = found["problems"]
    if isinstance(problems, list) and problems:
        raise StageFailure(FailureClass.DATASET_INVALID, "\n".join(str(problem) for problem in problems))
    rows = found.get("rows")
    counts = ", ".join(f"{name} {count}" for name, count in rows.items()) if isinstance(rows, dict) else ""
    formats = found.get("formats")
    kinds = " and ".join(formats) if isinstance(formats, list) else ""
    return [f"Rows ({kinds}): {counts}."]
