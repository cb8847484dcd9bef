"""What an output folder remembers of its job: ``DIR/.tunesmith/status.json``, the local object (contract 2).

It stands for the object's spec and status together; what both kinds of object hold is the API's models.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from tunesmith.published_names import OWN_FOLDER
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.plan import Plan
from tunesmith_api.resolved import Resolved
from tunesmith_api.schema import Recorded
from tunesmith_api.stages import Failure, Stage, StageResult
from tunesmith_api.status import Phase, RecordedKeys

FILE = "status.json"


class RecordedStage(Recorded):
    """One stage that has ended well: under which keys, and what it found. Of others nothing is kept."""

    keys: RecordedKeys
    result: StageResult


class Record(Recorded):
    """The local object: its identity, the manifest it was made for, pinned sources, and results by stage name."""

    uid: str = Field(default_factory=lambda: str(uuid.uuid4()))
    manifest: dict[str, Any]
    store: str
    namespace: str
    resolved: Resolved | None = None
    stages: dict[str, RecordedStage] = Field(default_factory=dict)
    # Stages whose artifacts were found damaged: they replace what is there, whatever happens in between.
    repeat: tuple[str, ...] = ()
    phase: Phase = Phase.PENDING
    failure: Failure | None = None

    def recorded_keys(self) -> dict[str, RecordedKeys]:
        """What `make_plan` has to keep."""
        return {name: stage.keys for name, stage in self.stages.items()}

    def with_result(self, plan: Plan, name: str, result: StageResult) -> "Record":
        """The record once `name` of `plan` has ended well."""
        stages = {**self.stages, name: RecordedStage(keys=plan.stage(name).recorded_keys(), result=result)}
        repeat = tuple(other for other in self.repeat if other != name)
        return self.model_copy(update={"stages": stages, "repeat": repeat, "failure": None})

    def running(self) -> "Record":
        """The record once a run has begun."""
        return self.model_copy(update={"phase": Phase.RUNNING, "failure": None})

    def ended(self, failure: Failure | None) -> "Record":
        """The record once a run has come to its end, with why it failed if it did."""
        return self.model_copy(
            update={"phase": Phase.COMPLETE if failure is None else Phase.FAILED, "failure": failure}
        )

    def damaged(self, name: str) -> "Record":
        """The record once something that `name` made was found damaged: it is made again and replaced.

        publish looks again too: what it published names digests and figures of what is made anew.
        """
        stages = {key: value for key, value in self.stages.items() if key not in (name, Stage.PUBLISH)}
        return self.model_copy(update={"stages": stages, "repeat": tuple(dict.fromkeys((*self.repeat, name)))})


def read_record(output: Path) -> Record | None:
    """The record of an output folder, None if it has none; `SpecInvalid` if it is unreadable."""
    path = output / OWN_FOLDER / FILE
    if not path.exists():
        return None
    try:
        return Record.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError) as error:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            f"{path} is not the record of a Tunesmith job",
            "Choose another --output; what is in the store is used again.",
        ) from error


def write_record(output: Path, record: Record) -> None:
    """Replace the record, whole or not at all."""
    folder = output / OWN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE}.{os.getpid()}"
    partial.write_text(json.dumps(record.to_json_dict(), indent=1, ensure_ascii=False))
    partial.replace(folder / FILE)
