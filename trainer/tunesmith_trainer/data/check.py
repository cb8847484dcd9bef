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
from typing import Any, Self

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.settings import PrepareSettings
from tunesmith_api.spec import OnInvalidRows
from tunesmith_trainer.data.gather import Gathered, gather, with_system
from tunesmith_trainer.data.split import LEAST, USED, Part, split
from tunesmith_trainer.data.tally import Tally


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: its class, a sentence with the place, what helps, and the dataset's number if known."""

    failure: FailureClass
    what: str
    right: str
    dataset: int | None = None

    @classmethod
    def of(cls, error: StageFailure) -> Self:
        """What stands in a failure."""
        return cls(error.failure, error.message, error.hint)

    def to_json_dict(self) -> dict[str, Any]:
        return {"class": self.failure.value, "what": self.what, "right": self.right, "dataset": self.dataset}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found: `problems`, one for all rows that are broken alike; `rows` by what becomes of them.

    `prompts` are the different ones that are held out to be answered; None where that is not known.
    """

    problems: tuple[Fault, ...]
    formats: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    prompts: int | None = None

    def to_json_dict(self) -> dict[str, Any]:
        problems = [problem.to_json_dict() for problem in self.problems]
        return {"problems": problems, "formats": list(self.formats), "rows": self.rows, "prompts": self.prompts}


def check_dataset(sources: Path, settings: PrepareSettings, *, whole: bool = True) -> Checked:
    """Read, understand, deduplicate and split (the `whole` only); no fault of a dataset is raised, all are listed."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            gathered = gather(
                sources, Path(scratch) / "spool", settings, lambda example: with_system(example, settings.system_prompt)
            )
        except StageFailure as error:
            return Checked((Fault.of(error),))
        return _checked(gathered, settings, whole=whole)


def _checked(gathered: Gathered, settings: PrepareSettings, *, whole: bool) -> Checked:
    tally = gathered.tally
    problems = _faults(tally) if settings.on_invalid_rows is OnInvalidRows.FAIL else []
    prompts = None
    rows = {"read": tally.read, "invalid": tally.invalid, "duplicates": tally.duplicates}
    try:
        if whole:
            parts = split(gathered.index, settings)
            rows |= {part.name.lower(): parts.count(part) for part in USED}
            prompts = len({key for at, key in enumerate(gathered.index.prompts) if parts.of(at) is Part.EVAL})
    except StageFailure as error:
        # Too few rows are no news where the broken ones make the difference: corrected, they may be enough.
        least, different = sum(LEAST.values()), len(set(gathered.index.prompts))
        if not problems or not different < least <= different + tally.invalid:
            problems.append(Fault.of(error))
    return Checked(tuple(problems), tuple(tally.formats), rows, prompts)


def _faults(tally: Tally) -> list[Fault]:
    invalid = FailureClass.DATASET_INVALID
    faults = []
    for each in tally.alike:
        rows = tally.rows[each.dataset]
        faults.append(Fault(invalid, each.told(rows), each.hint(rows), each.dataset))
    if rest := tally.invalid - sum(each.count for each in tally.alike):
        faults.append(Fault(invalid, f"{rest} rows more cannot be used, each for another reason", faults[-1].right))
    return faults


def main() -> int:
    """The command line of this module."""
    sources, settings = map(Path, sys.argv[1:3])
    told = PrepareSettings.model_validate_json(settings.read_text(encoding="utf-8"))
    found = check_dataset(sources, told, whole="--part-of-a-job" not in sys.argv[3:])
    print(json.dumps(found.to_json_dict(), ensure_ascii=False))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
