"""What an output folder may be, and for which job: told in a sentence before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from support.builders import DATASETS, MODEL, a_plan
from tunesmith.local.job import held, recorded
from tunesmith.local.record import Record, write_record
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StageResult

PLAN = a_plan()


def a_record(name: str, **spec: Any) -> Record:
    """The record of a job that nothing was made for yet."""
    manifest = {"metadata": {"name": name}, "spec": {"model": MODEL, "datasets": DATASETS} | spec}
    return Record(manifest=manifest, store="file:///store", namespace="default")


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    """The folder of a job named facts that has begun."""
    first = PLAN.stages[0]
    write_record(tmp_path, a_record("facts").with_result(PLAN, first.name, StageResult(stage=first.stage)))
    return tmp_path


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_that_is_a_file_is_refused_in_a_sentence(tmp_path: Path, place: str) -> None:
    """As is any other that no folder can be made at."""
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(StageFailure, match="cannot be the folder for the result: Not a directory") as caught,
        held(tmp_path / place),
    ):
        pass

    assert caught.value.failure is FailureClass.SPEC_INVALID
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_another_run_works_in_is_refused(tmp_path: Path) -> None:
    """It is free again when that run has ended."""
    with held(tmp_path), pytest.raises(StageFailure, match="another run is working in"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_the_folder_of_another_job_is_told_by_the_names_alone(facts: Path) -> None:
    """What else differs between two jobs helps nobody."""
    with pytest.raises(StageFailure) as caught:
        recorded(facts, a_record("street-reports", training={"seed": 7}))

    assert caught.value.message == f"{facts} holds job 'facts', this is 'street-reports'"


def test_a_changed_job_is_told_what_has_changed(facts: Path) -> None:
    """Each thing that would change what is there."""
    with pytest.raises(StageFailure, match=r"holds job 'facts' as it was before: .*seed"):
        recorded(facts, a_record("facts", training={"seed": 7}))


def test_the_same_job_goes_on_and_an_unstarted_one_may_be_anything(facts: Path, tmp_path: Path) -> None:
    """The record is the folder's own while it holds, and a fresh one otherwise."""
    fresh = a_record("facts")
    assert recorded(facts, fresh).uid != fresh.uid
    assert recorded(tmp_path / "new", fresh) is fresh
