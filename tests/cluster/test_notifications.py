"""Who is told how a job ends: at least once, signed, whatever becomes of receiver and operator meanwhile."""

from pathlib import Path
from typing import Any

from support.applied import SPEC, Applied
from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_account import operator_account
from support.operator_process import SETTINGS, applied, operator
from support.sink import KEY, Receiver, receiver
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.failures import FailureClass

SECONDS = 60.0


def settings_of(sink: Receiver, folder: Path) -> dict[str, Any]:
    (folder / "key").write_text(KEY + "\n")
    return {**SETTINGS, "notifications": {"url": sink.url, "keyFile": str(folder / "key")}}


def test_a_restart_loses_no_notification_and_sends_none_twice(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The receiver is away when the job fails, and the operator is another when it is back."""
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, SPEC))
    account = operator_account(plane, tmp_path, namespace)
    with receiver(away=True) as sink:
        told = settings_of(sink, tmp_path)
        with operator(account, tmp_path, namespace, told):
            job.done("prepare")
            job.kubelet.fail(job.kubelet.pod_of("bot", "train"), FailureClass.TRAINING_DIVERGED)
            job.is_in("Failed")
            wait_until(lambda: sink.refused > 0, "the receiver to be asked", SECONDS)
        assert "notified" not in job.status
        sink.away = False
        with operator(account, tmp_path, namespace, told):
            status = job.until(lambda status: "notified" in status, "the notification to be recorded")
        with operator(account, tmp_path, namespace, told):
            plane.patch(job.path, {"metadata": {"annotations": {"tunesmith.dev/retry": "1"}}})
            job.completed()
            job.until(lambda now: now.get("notified") != status["notified"], "the next one to be recorded")

    failed, complete = sink.taken
    assert failed.get_type() == "dev.tunesmith.finetunejob.failed"
    assert failed.get_id() == status["notified"]
    assert failed.get_data()["failure"]["class"] == "TrainingDiverged"
    assert failed.get_source() == job.path
    assert complete.get_type() == "dev.tunesmith.finetunejob.complete"
    assert [each["name"] for each in complete.get_data()["artifacts"]] == ["Q8_0"]
    assert sink.url not in (tmp_path / "operator.log").read_text()


def test_a_job_that_is_over_stays_until_its_end_is_told(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Though it was to live no longer: what is gone cannot be told of by another operator."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"], ttlSecondsAfterFinished=0)
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, spec))
    account = operator_account(plane, tmp_path, namespace)
    with receiver(away=True) as sink, operator(account, tmp_path, namespace, settings_of(sink, tmp_path)):
        job.kubelet.fail(job.kubelet.pod_of("bot", "prepare"), FailureClass.DATASET_INVALID)
        wait_until(lambda: sink.refused > 0, "the receiver to be asked", SECONDS)
        assert job.status["phase"] == "Failed"
        sink.away = False
        wait_until(lambda: plane.client.get(job.path).status_code == 404, "the job to be deleted", SECONDS)

    assert [event.get_type() for event in sink.taken] == ["dev.tunesmith.finetunejob.failed"]
