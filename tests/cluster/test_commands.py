"""`tunesmith submit`, `status`, `logs`, `cancel` and `retry` against a real API server and a real S3 service."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import a_spec
from support.cli import called
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.node import logging_node
from support.operator_process import applied, operator
from support.runs import Ran, tunesmith
from support.servers import S3Server, minio_server
from support.small_cluster import ROWS, failed_text
from support.terminals import OnTerminal
from support.tiny_sources import write_sources
from support.waiting import wait_until
from tunesmith.cluster.connection import Aim, Connection, connect
from tunesmith.cluster.jobs import watch_job
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.cluster.seen import SeenJob
from tunesmith.resolve import Access, resolve
from tunesmith.store import Artifacts, open_store
from tunesmith.store.logs import put_log
from tunesmith.store.published import Source, publish
from tunesmith.store.runs import new_run, read_run, refresh_run
from tunesmith_api.failures import FAILURES, FailureClass
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import StoreLocation
from tunesmith_api.status import JobStatus

# Kubernetes has to be built first, in seven minutes.
pytestmark = pytest.mark.slow

SECONDS = 120.0
SPEC = a_spec(datasets=ROWS, quantizations=["Q8_0"])


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with minio_server(tmp_path_factory.mktemp("minio")) as server:
        yield server


@dataclass(frozen=True)
class User:
    """Somebody with a kubeconfig, a folder of manifests and credentials for the store, and a namespace."""

    plane: ControlPlane
    namespace: str
    folder: Path
    server: S3Server

    @property
    def path(self) -> str:
        return f"/apis/tunesmith.dev/v1alpha1/namespaces/{self.namespace}/finetunejobs/bot"

    @property
    def object(self) -> dict[str, Any]:
        return self.plane.get(self.path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self.plane.kubeconfig),
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "TUNESMITH_SECRETS": str(self.folder / "secrets"),
            "TUNESMITH_CACHE": str(self.folder / "cache"),
        }

    def calls(self, command: str, *arguments: str | Path) -> Ran:
        return called(command, *arguments, "--namespace", self.namespace, **self.environment)

    def writes(self, **spec: Any) -> Path:
        """A manifest of the job bot."""
        fields = {"model": {"source": "hf://org/model"}, "datasets": ROWS, "quantizations": ["Q8_0"]} | spec
        head = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "bot"}}
        (self.folder / "job.yaml").write_text(yaml.safe_dump(head | {"spec": fields}, sort_keys=False))
        return self.folder / "job.yaml"

    @property
    def store(self) -> dict[str, Any]:
        """The job's, in a prefix that is the namespace's; only pods have its Secret."""
        uri = f"s3://{self.server.bucket}/{self.namespace}"
        return {"uri": uri, "endpoint": self.server.endpoint, "secretRef": {"name": "minio"}}

    @property
    def artifacts(self) -> Artifacts:
        self.server.write_secret(self.folder / "pods" / "minio")
        location = StoreLocation(uri=self.store["uri"], endpoint=self.server.endpoint, secret="minio")
        return Artifacts(open_store(location, self.folder / "pods"), self.namespace)

    def stands(self, **status: Any) -> None:
        """What an operator would have written."""
        seen = {"observedGeneration": self.object["metadata"]["generation"]}
        self.plane.patch(f"{self.path}/status", {"status": seen | status})


@pytest.fixture
def user(plane: ControlPlane, namespace: str, tmp_path: Path, minio: S3Server) -> User:
    return User(plane, namespace, tmp_path, minio)


def test_a_job_is_created_found_unchanged_and_changed(user: User) -> None:
    """Its fields are Tunesmith's, as with `kubectl apply --server-side`: what is left out is unset again."""
    first = user.calls("submit", user.writes(priority=5))
    assert (first.code, first.stderr) == (0, "")
    assert f"bot in the namespace {user.namespace} is created." in first.stdout
    assert f"tunesmith status bot --watch -n {user.namespace}" in first.stdout
    assert {each["manager"] for each in user.object["metadata"]["managedFields"]} == {"tunesmith"}

    assert "has this spec already" in user.calls("submit", user.writes(priority=5)).stdout
    assert "is changed" in user.calls("submit", user.writes(quantizations=["Q8_0", "Q4_K_M"])).stdout
    spec = user.object["spec"]
    assert (spec["quantizations"], spec["priority"]) == (["Q8_0", "Q4_K_M"], 0)


def test_what_the_api_server_refuses_is_told(user: User) -> None:
    """What may not change, a namespace that is not there, fields of another: 2, and the object stays."""
    assert user.calls("submit", user.writes()).code == 0
    refused = user.calls("submit", user.writes(training={"seed": 7}))
    assert (refused.code, refused.stdout) == (2, "")
    assert "seed" in refused.stderr
    assert "another name" in refused.stderr

    nowhere = called("submit", user.writes(), "--namespace", "nowhere", **user.environment)
    assert nowhere.code == 2
    assert "there is no namespace nowhere" in nowhere.stderr

    user.plane.patch(user.path, {"spec": {"backoffLimit": 7}})
    other = user.calls("submit", user.writes(backoffLimit=2))
    assert other.code == 2
    assert "backoffLimit" in other.stderr
    assert "--force-conflicts" in other.stderr
    assert user.object["spec"]["backoffLimit"] == 7
    assert user.calls("submit", user.writes(backoffLimit=2), "--force-conflicts").code == 0
    assert user.object["spec"]["backoffLimit"] == 2


def test_who_may_not_is_told(user: User) -> None:
    """A service account without rights, and a token that nobody knows."""
    accounts = f"/api/v1/namespaces/{user.namespace}/serviceaccounts"
    user.plane.create(accounts, {"metadata": {"name": "guest"}})
    token = user.plane.create(f"{accounts}/guest/token", {"spec": {}})["status"]["token"]
    for used, said in ((token, "cannot get resource"), ("nobody", "does not know who you are")):
        config = yaml.safe_load(user.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": used}
        (user.folder / "kubeconfig").write_text(yaml.safe_dump(config))
        found = user.calls("status", "bot", "--kubeconfig", user.folder / "kubeconfig")
        assert (found.code, found.stdout) == (1, "")
        assert said in found.stderr


def test_a_cluster_without_the_crd_is_told(plane: ControlPlane) -> None:
    """The API server answers in plain text what it has no name for."""
    connection = connect(Aim(kubeconfig=plane.kubeconfig))
    with pytest.raises(ClusterProblem, match="knows no FineTuneJob"):
        connection.ask("GET", "/apis/absent.tunesmith.dev/v1/namespaces/default/finetunejobs/bot")


def test_the_namespace_is_the_manifest_s_else_the_context_s(user: User) -> None:
    """As kubectl has it."""
    config = yaml.safe_load(user.plane.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = user.namespace
    (user.folder / "kubeconfig").write_text(yaml.safe_dump(config))
    surroundings = user.environment | {"KUBECONFIG": str(user.folder / "kubeconfig")}
    manifest = user.writes()
    assert called("submit", manifest, **surroundings).code == 0
    assert user.object["metadata"]["namespace"] == user.namespace
    assert "bot: Pending" in called("status", "bot", **surroundings).stdout

    named = yaml.safe_load(manifest.read_text())
    named["metadata"]["namespace"] = "nowhere"
    manifest.write_text(yaml.safe_dump(named))
    assert "there is no namespace nowhere" in called("submit", manifest, **surroundings).stderr


def test_files_go_into_the_store_and_a_stage_can_read_them(user: User) -> None:
    """By digest: with the Secret of the store and nothing else; gc is told; twice, nothing is sent."""
    write_sources(user.folder)
    sources = {"model": {"source": "file://model"}, "datasets": [{"source": "file://rows.jsonl"}]}
    manifest = user.writes(**sources, store=user.store)
    found = user.calls("submit", manifest, "--upload")
    assert (found.code, found.stderr) == (0, "")

    spec = JobSpec.model_validate(user.object["spec"])
    assert spec.datasets[0].source.startswith(f"{user.store['uri']}/{user.namespace}/uploads/")
    artifacts = user.artifacts
    # As prepare does in a pod.
    resolved = resolve(spec, Access(user.folder / "nothing", user.folder / "pods", endpoint=user.server.endpoint))
    assert resolved.model.name == "model"
    assert resolved.datasets[0].size == (user.folder / "rows.jsonl").stat().st_size
    run = read_run(artifacts.store, user.namespace, user.object["metadata"]["uid"])
    assert run is not None
    assert {digest in spec.model.source + spec.datasets[0].source for digest in run.uploads} == {True}
    assert len(run.uploads) == 2

    before = {item.name: item.modified for item in artifacts.store.list(f"{user.namespace}/uploads")}
    again = user.calls("submit", manifest, "--upload")
    assert again.stdout.count("in the store already") == 2
    assert {item.name: item.modified for item in artifacts.store.list(f"{user.namespace}/uploads")} == before

    # Other rows are another job's: refused before they are sent.
    (user.folder / "rows.jsonl").write_text((user.folder / "rows.jsonl").read_text() * 2)
    changed = user.calls("submit", manifest, "--upload")
    assert changed.code == 2
    assert "make a new job" in changed.stderr
    assert {item.name: item.modified for item in artifacts.store.list(f"{user.namespace}/uploads")} == before


def test_rows_that_a_stage_would_refuse_are_not_sent(user: User) -> None:
    """With file and line, as `tunesmith validate` says it."""
    write_sources(user.folder)
    (user.folder / "rows.jsonl").write_text('{"prompt": "a", "completion"\n')
    found = user.calls("submit", user.writes(datasets=[{"source": "file://rows.jsonl"}], store=user.store), "--upload")

    assert found.code == 2
    assert "spec.datasets[0].source" in found.stderr
    assert list(user.artifacts.store.list(user.namespace)) == []
    assert user.plane.client.get(user.path).status_code == 404


def test_a_store_of_the_operator_s_is_named_in_the_call(user: User) -> None:
    """The manifest names none: the object gets the address and the Secret, not the way from here."""
    write_sources(user.folder)
    manifest = user.writes(datasets=[{"source": "file://rows.jsonl"}])
    without = user.calls("submit", manifest, "--upload")
    assert without.code == 2
    assert "--store s3://" in without.stderr

    options = ("--store", user.store["uri"], "--store-endpoint", user.server.endpoint, "--store-secret", "minio")
    assert user.calls("submit", manifest, "--upload", *options).code == 0
    [dataset] = user.object["spec"]["datasets"]
    assert dataset["secretRef"] == {"name": "minio"}
    assert "endpoint" not in dataset
    assert user.server.endpoint not in json.dumps(user.object)


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
    assert "is Running: this is what it has published before" in found.stdout

    assert user.calls("cancel", "bot").code == 0
    gone = user.calls("fetch", "bot")
    assert gone.code == 1
    assert "--store s3://" in gone.stderr
