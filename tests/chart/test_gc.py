"""The CronJob that sweeps the store: what it would run, run here against a real MinIO."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.install_yaml import templated
from support.servers import S3Server, minio_server
from tunesmith.store import open_store
from tunesmith.store.runs import new_run, refresh_run
from tunesmith_api.stages import StoreLocation

TEAM = "team-a"


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 service."""
    with minio_server(tmp_path_factory.mktemp("minio")) as server:
        yield server


def rendered(server: S3Server, **gc: Any) -> dict[str, dict[str, Any]]:
    """The objects of the namespace, by their kind."""
    store = {"uri": f"s3://{server.bucket}", "endpoint": server.endpoint, "secretRef": {"name": "store"}}
    values = {"gc": {"enabled": True, **gc}, "config": {"store": store}, "jobNamespaces": [{"name": TEAM}]}
    words = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    objects = [each for each in yaml.safe_load_all(templated(*words, "--show-only", "templates/gc.yaml")) if each]
    return {each["kind"]: each for each in objects}


def swept(objects: dict[str, dict[str, Any]], server: S3Server, folder: Path) -> dict[str, Any]:
    """What the container's command says, with what would be mounted in folders of this machine."""
    [container] = objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (folder / "job").mkdir()
    for name, text in objects["ConfigMap"]["data"].items():
        (folder / "job" / name).write_text(text)
    server.write_secret(folder / "secrets" / "store")
    here = {mounts["job"]: str(folder / "job"), mounts["tmp"]: str(folder / "tmp")}
    here |= {str(Path(mounts["secret-0"]).parent): str(folder / "secrets")}

    def moved(word: str) -> str:
        places = sorted(here, key=len, reverse=True)
        return next((word.replace(there, here[there]) for there in places if there in word), word)

    environment = {entry["name"]: moved(entry["value"]) for entry in container["env"]}
    command = [sys.executable, *container["command"][1:], *map(moved, container["args"]), "--json"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("dry_run", [True, False])
def test_it_sweeps_the_part_of_the_store_that_its_namespace_writes(
    minio: S3Server, tmp_path: Path, *, dry_run: bool
) -> None:
    """With the store's Secret of that namespace; what others have is not looked at."""
    minio.write_secret(tmp_path / "own")
    location = StoreLocation(uri=f"s3://{minio.bucket}", endpoint=minio.endpoint, secret="own")
    store, forgotten = open_store(location, tmp_path), datetime.now(UTC) - timedelta(days=31)
    for namespace in (TEAM, "team-b"):
        refresh_run(store, namespace, new_run("u", "bot", [], forgotten))

    said = swept(rendered(minio, dryRun=dry_run), minio, tmp_path)

    assert (said["store"], said["dryRun"], said["removed"]) == (f"s3://{minio.bucket}", dry_run, ["runs/u.json"])
    assert (store.stat(f"{TEAM}/runs/u.json") is not None) is dry_run
    assert store.stat("team-b/runs/u.json") is not None


@pytest.mark.parametrize(("lacks", "value"), [("config.store", "jobNamespaces"), ("jobNamespaces", "config")])
def test_it_needs_a_store_and_namespaces(minio: S3Server, lacks: str, value: str) -> None:
    """And says which of them is absent."""
    store = {"store": {"uri": f"s3://{minio.bucket}"}}
    given = {"jobNamespaces": [{"name": TEAM}], "config": store}[value]
    with pytest.raises(RuntimeError, match=f"gc.enabled needs {lacks}"):
        templated("--set-json", "gc.enabled=true", "--set-json", f"{value}={json.dumps(given)}")


def test_its_pod_is_one_that_kubernetes_takes(minio: S3Server) -> None:
    """One Secret for keys and certificate is mounted once, whatever its name; the name of a CronJob is short."""
    store = {"uri": f"s3://{minio.bucket}", "secretRef": {"name": "my.store"}, "caSecretRef": {"name": "my.store"}}
    values = {"gc": {"enabled": True}, "config": {"store": store}, "jobNamespaces": [{"name": TEAM}]}
    words = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    text = templated(*words, "--show-only", "templates/gc.yaml", release="a" * 53)
    [job] = [each for each in yaml.safe_load_all(text) if each["kind"] == "CronJob"]
    volumes = [each["name"] for each in job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]]

    assert sorted(volumes) == ["job", "secret-0", "tmp"]
    assert len(job["metadata"]["name"]) <= 52


def test_there_is_none_unless_it_is_asked_for() -> None:
    """It deletes."""
    assert "CronJob" not in templated("--set-json", f"jobNamespaces={json.dumps([{'name': TEAM}])}")
