"""`tunesmith status --watch`, `retry`, `cancel` and `fetch` beside a real operator and a real S3 service."""

import threading

import pytest

from support.cluster_user import SPEC, User
from support.kubelet import Kubelet
from support.operator_process import applied, operator
from support.runs import Ran, tunesmith
from support.small_cluster import failed_text
from support.waiting import wait_until
from tunesmith.store.published import Source, publish
from tunesmith_api.failures import FAILURES, FailureClass

# Minutes together.
pytestmark = pytest.mark.slow

SECONDS = 120.0


def test_a_job_is_followed_retried_and_cancelled(user: User) -> None:
    """By a real operator: the watch ends with the failure and again with the end; what was done is not done again."""
    kubelet = Kubelet(user.plane, user.namespace)
    applied(user.plane, user.namespace, SPEC)
    with operator(user.plane.kubeconfig, user.folder, user.namespace):
        watched = Watched(user)
        pod = kubelet.pod_of("bot", "prepare")
        kubelet.begin(pod)
        early = user.calls("retry", "bot")
        assert early.code == 1
        assert "nothing of bot has failed" in early.stderr
        kubelet.end_well(pod, SPEC)
        pod = kubelet.pod_of("bot", "train")
        kubelet.begin(pod)
        code = FAILURES[FailureClass.DATASET_INVALID].exit_code
        kubelet.end(pod, code, failed_text("train", FailureClass.DATASET_INVALID))
        found = watched.end()
        assert found.code == 1
        assert "prepare: Done" in found.stdout
        assert "DatasetInvalid in train: it failed" in found.stdout
        assert user.object["status"]["store"] == {"uri": "s3://bucket"}

        tried = user.calls("retry", "bot")
        assert tried.code == 0
        assert "train of bot will be tried again" in tried.stdout
        watched = Watched(user)
        wait_until(lambda: complete(user, kubelet), "the job to be complete", SECONDS)
        found = watched.end()
        assert (found.code, found.stderr) == (0, "")
        assert "bot: Complete, 1/1 files passed" in found.stdout
        made = user.plane.jobs_made(user.namespace)
        assert [name for name in made if "-train-" in name] == [made[1]] * 2
        assert len([name for name in made if "-prepare-" in name]) == 1

        gone = user.calls("cancel", "bot")
        assert gone.code == 0
        assert "stays in the store" in gone.stdout
    jobs = f"/apis/batch/v1/namespaces/{user.namespace}/jobs"
    wait_until(lambda: user.plane.client.get(user.path).status_code == 404, "the job to be gone", SECONDS)
    wait_until(lambda: user.plane.get(jobs)["items"] == [], "its Jobs to go", SECONDS)
    assert "there is no FineTuneJob bot" in user.calls("cancel", "bot").stderr


def complete(user: User, kubelet: Kubelet) -> bool:
    """All pods end well, until the job is complete."""
    kubelet.carry_on("bot", SPEC)
    return bool(user.object["status"].get("phase") == "Complete")


class Watched:
    """`tunesmith status bot --watch`, in a process of its own."""

    def __init__(self, user: User) -> None:
        self._found: list[Ran] = []
        arguments = ("status", "bot", "--watch", "--namespace", user.namespace)
        self._thread = threading.Thread(
            target=lambda: self._found.append(tunesmith(*arguments, **user.environment)), daemon=True
        )
        self._thread.start()

    def end(self) -> Ran:
        self._thread.join(SECONDS)
        assert self._found, "the watch does not end"
        return self._found[0]


def test_what_a_job_has_published_is_fetched_by_its_own_status(user: User) -> None:
    """The store is the one that the status names; gone from the cluster, the way to it is told."""
    user.calls("submit", user.writes())
    unknown = user.calls("fetch", "bot")
    assert unknown.code == 1
    assert "is not known yet" in unknown.stderr
    store = {"uri": user.store["uri"], "endpoint": user.server.endpoint, "secret": "minio"}
    user.stands(phase="Running", store=store)
    nothing = user.calls("fetch", "bot", "--output", user.folder / "out")
    assert nothing.code == 1
    assert "bot has published nothing yet: it is Running" in nothing.stderr

    made = user.folder / "made"
    made.mkdir()
    (made / "bot-Q8_0.gguf").write_bytes(b"GGUF")
    manifest = user.artifacts.commit("publication", "p" * 64, made)
    publish(user.artifacts, "bot", "p" * 64, {"bot-Q8_0.gguf": Source(manifest, "bot-Q8_0.gguf")})
    found = user.calls("fetch", "bot", "--output", user.folder / "out")
    assert (found.code, found.stderr) == (0, "")
    assert (user.folder / "out" / "bot-Q8_0.gguf").read_bytes() == b"GGUF"
    assert "is Running: this is what it has published." in found.stdout

    assert user.calls("cancel", "bot").code == 0
    gone = user.calls("fetch", "bot")
    assert gone.code == 1
    assert "--store s3://" in gone.stderr
