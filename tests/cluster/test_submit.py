"""`tunesmith submit` against a real API server and a real S3 service."""

import json

import pytest
import yaml

from support.cli import called
from support.cluster_user import User
from support.control_plane import ControlPlane
from support.tiny_sources import write_sources
from tunesmith.cluster.connection import Aim, connect
from tunesmith.cluster.problem import ClusterProblem
from tunesmith.resolve import Access, resolve
from tunesmith.store.runs import read_run
from tunesmith_api.spec import JobSpec

# Minutes together.
pytestmark = pytest.mark.slow

SECONDS = 120.0


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
    # What would be refused anyway comes first: to take the fields over would not help.
    both = user.calls("submit", user.writes(backoffLimit=2, training={"seed": 7}))
    assert both.code == 2
    assert "seed" in both.stderr
    assert "--force-conflicts" not in both.stderr
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
    assert "give the changed one another name" in changed.stderr
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
