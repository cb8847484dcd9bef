"""What an output folder remembers of damage until it is made good."""

from support.builders import a_plan
from tunesmith.local.record import Record
from tunesmith_api.stages import StageResult

PLAN = a_plan()


def done() -> Record:
    """The record of a finished job."""
    record = Record(manifest={}, store="file:///store", namespace="default")
    for stage in PLAN.stages:
        record = record.with_result(PLAN, stage.name, StageResult(stage=stage.stage))
    return record


def test_a_damaged_artifact_takes_its_makers_result_and_that_of_publish() -> None:
    """publish named digests and figures of what is made anew; nothing else is run again."""
    damaged = done().damaged("convert")

    assert done().stages.keys() - damaged.stages.keys() == {"convert", "publish"}
    assert damaged.repeat == ("convert",)
    assert damaged.damaged("convert").repeat == ("convert",)


def test_a_repair_is_remembered_until_it_is_done() -> None:
    """By the file too, since a run may be killed in between."""
    damaged = Record.model_validate_json(done().damaged("train").model_dump_json(by_alias=True))
    assert damaged.repeat == ("train",)

    assert damaged.with_result(PLAN, "convert", StageResult(stage="convert")).repeat == ("train",)
    assert damaged.with_result(PLAN, "train", StageResult(stage="train")).repeat == ()
