"""What a run refuses before its first stage, told in a sentence."""

from pathlib import Path

import pytest
import yaml

from support.runs import Ran, manifest, run_job, tunesmith
from tunesmith.local.job import Wanted, open_job
from tunesmith.manifest import read_manifest


def store_everything(folder: Path, job: dict[str, object]) -> None:
    """As if another run had made every artifact of the job in the store below `folder`."""
    folder.mkdir()
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    local = open_job(Wanted(read_manifest(folder / "job.yaml"), folder / "out", str(folder / "store")))
    for stage in local.plan.stages:
        for output in stage.outputs:
            made = folder / "made" / output.kind / output.key
            made.mkdir(parents=True)
            (made / "README.md").write_text(stage.name)
            local.site.artifacts.commit(output.kind, output.key, made)


def refused(ran: Ran) -> str:
    assert ran.code == 2
    assert "Traceback" not in ran.stderr
    ((event, failure),) = [(event["event"], event["failure"]) for event in ran.events]
    assert (event, failure["class"]) == ("finished", "SpecInvalid")
    return ran.stderr.splitlines()[0]


def test_files_of_others_are_noticed_before_a_stage_is_looked_up_in_the_store(tmp_path: Path) -> None:
    """Not after all of them."""
    store_everything(tmp_path / "run", manifest())
    (tmp_path / "run" / "out").mkdir()
    (tmp_path / "run" / "out" / "README.md").write_text("mine")

    assert "holds files of somebody else that the result would replace: README.md" in refused(
        run_job(tmp_path / "run", manifest())
    )
    assert (tmp_path / "run" / "out" / "README.md").read_text() == "mine"


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_an_output_that_is_a_file_is_refused(tmp_path: Path, output: str) -> None:
    """It stays as it is."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest()))
    ran = tunesmith("run", tmp_path / "job.yaml", "--output", tmp_path / output, "--json")

    assert "is a file" in refused(ran)
    assert (tmp_path / "file").read_text() == "mine"
