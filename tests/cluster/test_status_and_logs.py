"""`tunesmith status` and `logs` against a real API server and a real S3 service."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from support.cli import called
from support.cluster_user import User
from support.kubelet import Kubelet
from support.node import logging_node
from support.servers import free_ports
from support.terminals import OnTerminal
from support.waiting import wait_until
from tunesmith.cluster.connection import Aim, Connection, connect
from tunesmith.cluster.jobs import watch_job
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.seen import SeenJob
from tunesmith.store.logs import put_log
from tunesmith.store.runs import new_run, refresh_run
from tunesmith_api.status import JobStatus

# Minutes together.
pytestmark = pytest.mark.slow

SECONDS = 120.0


def test_status_tells_what_stands_in_the_object(user: User) -> None:
    """And as JSON the status itself; a job that is not there is one sentence."""
    missing = user.calls("status", "bot")
    assert (missing.code, missing.stdout) == (1, "")
    assert f"there is no FineTuneJob bot in the namespace {user.namespace}" in missing.stderr
    user.calls("submit", user.writes())
    assert "no operator has looked at it yet" in user.calls("status", "bot").stdout
    failure = {"stage": "train", "class": "OutOfMemory", "message": "too large", "hint": "smaller", "retryHelps": True}
    user.stands(phase="Failed", stages=[{"name": "train", "state": "Failed", "message": "too large"}], failure=failure)

    told = user.calls("status", "bot")
    assert told.code == 1
    for said in ("bot: Failed", "train  Failed", "OutOfMemory in train: too large", "smaller", "tunesmith retry bot"):
        assert said in told.stdout
    as_json = json.loads(user.calls("status", "bot", "--json").stdout)
    assert JobStatus.model_validate(as_json["status"]) == JobStatus.model_validate(user.object["status"])
    assert as_json["settled"] is True


@pytest.mark.parametrize(
    ("status", "cells"),
    [
        (
            {"phase": "Running", "progress": {"percent": 45, "loss": 1.25}, "message": "train running"},
            ["Running", 45, 1.25, None, "train running"],
        ),
        (
            {"phase": "Running", "message": "train: no node for its pod: 0/1 nodes are available"},
            ["Running", None, None, None, "train: no node for its pod: 0/1 nodes are available"],
        ),
        (
            {"phase": "Failed", "summary": "1/2", "message": "Q2_K failed maxScoreDrop"},
            ["Failed", None, None, "1/2", "Q2_K failed maxScoreDrop"],
        ),
    ],
)
def test_kubectl_get_tells_it_in_one_line(user: User, status: dict[str, Any], cells: list[Any]) -> None:
    """As the API server writes the table that kubectl shows."""
    user.calls("submit", user.writes())
    user.stands(**status)
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    found = user.plane.client.get(user.path, headers=table).json()
    shown = [at for at, column in enumerate(found["columnDefinitions"]) if column["priority"] == 0]
    [row] = found["rows"]

    told = {found["columnDefinitions"][at]["name"]: row["cells"][at] for at in shown}
    age = told.pop("Age")
    assert age.endswith("s")
    assert told == dict(zip(("Name", "Phase", "Progress", "Loss", "Passed", "Message"), ["bot", *cells], strict=True))


def test_without_a_name_all_jobs_are_listed(user: User) -> None:
    """Of the namespace, or of all; none is one sentence; one that has failed is not the list's failure."""
    none = user.calls("status")
    assert (none.code, none.stdout) == (0, "")
    assert f"There is no FineTuneJob in the namespace {user.namespace}." in none.stderr
    user.calls("submit", user.writes())
    failure = {"stage": "train", "class": "OutOfMemory", "message": "too large", "hint": "", "retryHelps": True}
    user.stands(phase="Failed", summary="0/1", progress={"percent": 45}, failure=failure)

    listed = user.calls("status")
    assert listed.code == 0
    assert listed.stdout.splitlines()[1].split() == ["bot", "Failed", "0/1", "45", "%", "too", "large"]
    everywhere = called("status", "--all-namespaces", **user.environment).stdout
    assert [user.namespace, "bot", "Failed"] in [line.split()[:3] for line in everywhere.splitlines()]
    (document,) = json.loads(user.calls("status", "--json").stdout)["jobs"]
    assert document == json.loads(user.calls("status", "bot", "--json").stdout)
    for refused in (user.calls("status", "--watch"), user.calls("status", "--all-namespaces")):
        assert (refused.code, refused.stdout) == (2, "")


def test_on_a_terminal_a_watch_redraws_what_stands(user: User) -> None:
    """Until it is over."""
    user.calls("submit", user.writes())
    where = ("--namespace", user.namespace, "--kubeconfig", user.plane.kubeconfig)
    shown = OnTerminal("status", "bot", "--watch", *where)
    shown.until("bot: ", "Pending: no operator")
    user.stands(phase="Running", message="train running", stages=[{"name": "train", "state": "Running"}])
    shown.until("bot: ", r"Running: train running(.|\n)*train +Running")
    user.stands(phase="Complete", message="all files are published", stages=[{"name": "train", "state": "Done"}])

    assert shown.end(timeout=SECONDS) == 0
    assert "train  Done" in shown.drawings("bot: ")[-1]


@dataclass(frozen=True, slots=True)
class Hasty(Connection):
    """The API server ends each watch after a second; `begun` has an entry for each."""

    begun: list[str] = field(default_factory=list)

    def stream(self, path: str, query: Mapping[str, str], quiet_seconds: float | None) -> Iterator[bytes]:
        self.begun.append(query["resourceVersion"])
        return Connection.stream(self, path, {**query, "timeoutSeconds": "1"}, quiet_seconds)


def test_a_watch_outlives_watches_that_end(user: User) -> None:
    """What happens between two of them is seen as well, each state once; a deleted job ends it."""
    user.calls("submit", user.writes())
    known = connect(Aim(kubeconfig=user.plane.kubeconfig))
    hasty = Hasty(known.server, known.namespace, known.client)
    seen: list[SeenJob] = []
    ended: list[ClusterProblem] = []

    def collect() -> None:
        try:
            seen.extend(watch_job(hasty, user.namespace, "bot"))
        except ClusterProblem as problem:
            ended.append(problem)

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    wait_until(lambda: len(hasty.begun) > 2, "two watches to have ended", SECONDS)
    user.stands(phase="Running")
    wait_until(lambda: len(seen) == 2, "the change", SECONDS)
    begun = len(hasty.begun)
    wait_until(lambda: len(hasty.begun) > begun + 1, "another watch", SECONDS)
    assert [each.status.phase for each in seen] == ["Pending", "Running"]
    user.plane.delete(user.path)
    thread.join(SECONDS)
    assert "there is no FineTuneJob bot" in ended[0].message


def test_logs_are_the_pod_s_while_there_is_one_and_else_the_store_s(user: User) -> None:
    """By way of the API server and a kubelet; when the pod is gone the newest log of the stage's key counts."""
    user.calls("submit", user.writes(store=user.store))
    user.stands(phase="Running", stages=[{"name": "train", "state": "Running"}])
    none = user.calls("logs", "bot")
    assert none.code == 1
    assert "train of bot has left no log yet" in none.stderr
    nowhere = user.calls("logs", "bot", "--store-endpoint", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert nowhere.code == 1
    assert "train of bot has no pod now, and what it left in the store cannot be read" in nowhere.stderr

    keys = {"asked": "a" * 64, "outputs": {"adapter": "k" * 64}}
    user.stands(phase="Running", stages=[{"name": "train", "state": "Running", "keys": keys}])
    artifacts, log = user.artifacts, user.folder / "stage.log"
    for attempt in ("b-first", "a-second"):
        log.write_text(f"the {attempt} attempt\n")
        put_log(artifacts.store, user.namespace, ("train", "k" * 64, attempt), log)
    assert user.calls("logs", "bot").stdout == "the a-second attempt\n"

    pods = f"/api/v1/namespaces/{user.namespace}/pods"
    pod = user.plane.create(pods, a_pod("bot-train-1"))
    with logging_node(user.plane, user.folder / "node", f"node-of-{user.namespace}") as node:
        node.take(pod, "step 1 ä\nstep 2\n".encode())
        Kubelet(user.plane, user.namespace).begin(pod)
        found = user.calls("logs", "bot", "train", "--follow")
        assert (found.code, found.stdout) == (0, "step 1 ä\nstep 2\n")
        assert "follow=true" in node.asked[-1]
    # Its node is gone, and the pod object is still there.
    assert user.calls("logs", "bot", "train").stdout == "the a-second attempt\n"


def test_the_log_of_a_prepare_that_failed_before_it_had_a_key(user: User) -> None:
    """By what the run itself has written down; else the newest without a key since it began."""
    user.calls("submit", user.writes(store=user.store))
    began = datetime.now(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
    user.stands(phase="Failed", stages=[{"name": "prepare", "state": "Failed", "started": began}])
    artifacts, log = user.artifacts, user.folder / "stage.log"
    log.write_text("no such bucket\n")
    put_log(artifacts.store, user.namespace, ("prepare", "none", "x"), log)
    assert user.calls("logs", "bot").stdout == "no such bucket\n"

    log.write_text("row 7 is broken\n")
    put_log(artifacts.store, user.namespace, ("prepare", "d" * 64, "x"), log)
    run = new_run(user.object["metadata"]["uid"], "bot", [("dataset", "d" * 64)])
    refresh_run(artifacts.store, user.namespace, run)
    assert user.calls("logs", "bot", "prepare").stdout == "row 7 is broken\n"


def a_pod(name: str) -> dict[str, Any]:
    """One of the stage train, as the operator's Jobs make them."""
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    labels = {"tunesmith.dev/job": "bot", "tunesmith.dev/stage": "train"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "containers": [{"name": "stage", "image": "x", "securityContext": context}],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }
