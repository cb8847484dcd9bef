"""Dataset files and settings in, what `prepare` would say of them out, without model, tokenizer or torch.

``python -m tunesmith_trainer.data.check SOURCES SETTINGS [--part-of-a-job]`` prints it as JSON: SOURCES is a folder as
prepare reads it (one sub-folder per dataset, and ``evaluation``), SETTINGS a file with PrepareSettings. With the flag
these are not all datasets of the job: nothing is said of the parts that they are split into. Exit code 0 if nothing is
wrong.
"""

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api.failures import StageFailure
from tunesmith_api.settings import PrepareSettings
from tunesmith_api.spec import OnInvalidRows
from tunesmith_trainer.data.gather import Gathered, gather, with_system
from tunesmith_trainer.data.split import USED, split


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found: `problems` as sentences with their places, `rows` by what becomes of them."""

    problems: tuple[str, ...]
    formats: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)

    def to_json_dict(self) -> dict[str, Any]:
        return {"problems": list(self.problems), "formats": list(self.formats), "rows": self.rows}


def check_dataset(sources: Path, settings: PrepareSettings, *, whole: bool = True) -> Checked:
    """Read, understand, deduplicate and split (the `whole` only); no fault of a dataset is raised, all are listed."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            gathered = gather(
                sources, Path(scratch) / "spool", settings, lambda example: with_system(example, settings.system_prompt)
            )
        except StageFailure as error:
            return Checked((f"{error.message}. {error.hint}",))
        return _checked(gathered, settings, whole=whole)


def _checked(gathered: Gathered, settings: PrepareSettings, *, whole: bool) -> Checked:
    tally = gathered.tally
    strict = settings.on_invalid_rows is OnInvalidRows.FAIL
    problems = [str(problem) for problem in tally.problems] if strict else []
    rows = {"read": tally.read, "invalid": tally.invalid, "duplicates": tally.duplicates}
    try:
        if whole:
            parts = split(gathered.index, settings)
            rows |= {part.name.lower(): parts.count(part) for part in USED}
    except StageFailure as error:
        problems.append(f"{error.message}. {error.hint}")
    return Checked(tuple(problems), tuple(tally.formats), rows)


def main() -> int:
    """The command line of this module."""
    sources, settings = map(Path, sys.argv[1:3])
    told = PrepareSettings.model_validate_json(settings.read_text(encoding="utf-8"))
    found = check_dataset(sources, told, whole="--part-of-a-job" not in sys.argv[3:])
    print(json.dumps(found.to_json_dict(), ensure_ascii=False))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
