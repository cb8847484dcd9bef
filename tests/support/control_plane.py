"""A real Kubernetes without nodes: etcd, the API server and the Job controller, on loopback, for the length of a block.

Pods are made and never run: a test says how they end, by writing their status as a kubelet does.
"""

import json
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import yaml

from support.server_binaries import cached_binary, go, run_to_end
from support.servers import free_ports
from support.waiting import wait_until
from tunesmith_api.names import STAGE_LABEL

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "kubernetes"
# The newest Kubernetes whose kubelet takes cgroup v1 without a switch.
VERSION = "v1.34.4"
CRD = ROOT / "crds" / "tunesmith.dev_finetunejobs.yaml"
_SECONDS = 180.0
# What an operator makes: with what was sent, since an object that is being made is not named in the address.
_MADE = {
    "level": "Request",
    "verbs": ["create"],
    "resources": [{"group": "batch", "resources": ["jobs"]}, {"group": "events.k8s.io", "resources": ["events"]}],
}
_WRITTEN = {"level": "Metadata", "verbs": ["create", "patch", "update", "delete", "deletecollection"]}
_LISTED = {"level": "Metadata", "verbs": ["list"], "resources": [{"group": "tunesmith.dev"}]}
# What somebody looks at who has rights of their own, and not all there are.
_SEEN = {"level": "Metadata", "verbs": ["get", "list", "watch"], "userGroups": ["system:serviceaccounts"]}
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [_MADE, _WRITTEN, _LISTED, _SEEN, {"level": "None"}],
}
# What the operator's clients call themselves (kubernetes.aio's api_client.py, kopf's clients/auth.py).
_OPERATOR = ("OpenAPI-Generator/", "kopf/")
# The controllers that a job needs: its Jobs' pods, what goes with what it belongs to, and what there is room for.
_CONTROLLERS = (
    "job-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller,"
    "resourcequota-controller"
)


class Gone(Exception):
    """The API server's 404."""


@dataclass
class Servers:
    """Processes by name, each with its log in the folder; they die with the test run, even when that is killed."""

    work: Path
    running: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def start(self, name: str, command: Sequence[Path | str]) -> None:
        """Start one, or start it again: its log goes on."""
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.work / f"{name}.log").open("ab") as output:
            whole = [*tied, *map(str, command)]
            self.running[name] = subprocess.Popen(whole, cwd=self.work, stdout=output, stderr=subprocess.STDOUT)

    def kill(self, name: str) -> Sequence[str]:
        """End one as a node that loses its power does; what it was started with."""
        process = self.running.pop(name)
        process.kill()
        process.wait()
        return [str(word) for word in process.args]  # type: ignore[union-attr]  # a list, as it was given

    def look(self) -> None:
        """An AssertionError with the last words of one that has ended."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise AssertionError(f"{name} has ended:\n{(self.work / f'{name}.log').read_text()[-2000:]}")


@dataclass(frozen=True)
class ControlPlane:
    """A running API server: its address, an administrator's token, its authority, a kubeconfig."""

    url: str
    token: str
    authority: Path
    kubeconfig: Path
    audit: Path
    client: httpx.Client = field(repr=False)
    servers: Servers = field(repr=False)

    @contextmanager
    def without_api_server(self) -> Iterator[None]:
        """Within it the API server is dead; after it another one serves what etcd has kept."""
        command = self.servers.kill("apiserver")
        try:
            yield
        finally:
            self.servers.start("apiserver", command)
            self.wait_for_api_server()

    def wait_for_api_server(self) -> None:
        """Until it answers; AssertionError if a server has ended."""
        wait_until(self._ready, "the API server to be ready", _SECONDS)

    def _ready(self) -> bool:
        self.servers.look()
        try:
            return self.client.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """An object or a list; an AssertionError with the server's words for what it refuses."""
        return self._answer(self.client.get(path, params=query))

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make an object in a collection."""
        return self._answer(self.client.post(path, json=body))

    def try_to_create(self, path: str, body: dict[str, Any]) -> str:
        """What the server says against an object; nothing if it takes it, which is undone."""
        answer = self.client.post(path, json=body, params={"dryRun": "All"})
        return "" if answer.is_success else str(answer.json()["message"])

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A merge patch; `Gone` where there is nothing to patch."""
        content, headers = json.dumps(body), {"Content-Type": "application/merge-patch+json"}
        answer = self.client.patch(path, content=content, headers=headers)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise Gone(path)
        return self._answer(answer)

    def delete(self, path: str, **query: str) -> None:
        """Delete an object."""
        self._answer(self.client.delete(path, params=query))

    def jobs_made(self, namespace: str) -> list[str]:
        """The names of all Jobs that were ever made in a namespace, whatever is left of them, by the audit log."""
        return [made["name"] for made in self._made(namespace)]

    def stages_made(self, namespace: str) -> list[str]:
        """The stage of each Job that was ever made in a namespace, by the audit log."""
        return [made["labels"][STAGE_LABEL] for made in self._made(namespace)]

    def _made(self, namespace: str) -> Iterator[dict[str, Any]]:
        for event in self._audited(namespace):
            kind, code = event["objectRef"]["resource"], event["responseStatus"]["code"]
            if (event["verb"], kind, code) == ("create", "jobs", HTTPStatus.CREATED):
                yield event["requestObject"]["metadata"]

    def statuses_written(self, namespace: str) -> int:
        """How often the status of a FineTuneJob was written in a namespace, or tried to be, by the audit log."""
        objects = (event["objectRef"] for event in self._audited(namespace))
        return sum((each["resource"], each.get("subresource")) == ("finetunejobs", "status") for each in objects)

    def writes_of_operator(self, namespace: str) -> list[str]:
        """Every write that an operator made in a namespace, or tried to, by the audit log: verb, kind and name."""
        own = (event for event in self._of_operator(namespace) if event["verb"] not in _SEEN["verbs"])
        return [f"{event['verb']} {event['objectRef']['resource']} {_name_of(event)}" for event in own]

    def rights_used(self, account: str) -> set[tuple[str, str, str]]:
        """What a user was let do, by the audit log: API group, resource with its subresource, and verb."""
        used = set()
        for line in self.audit.read_text().splitlines():
            event = json.loads(line)
            at, code = event.get("objectRef"), event.get("responseStatus", {}).get("code", HTTPStatus.OK)
            if event["user"]["username"] == account and at is not None and code != HTTPStatus.FORBIDDEN:
                resource = "/".join(part for part in (at["resource"], at.get("subresource")) if part)
                used.add((at.get("apiGroup", ""), resource, event["verb"]))
        return used

    def limit(self, namespace: str, hard: Mapping[str, str]) -> str:
        """A quota of the namespace that the API server enforces by now; its path."""
        path = f"/api/v1/namespaces/{namespace}/resourcequotas"
        self.create(path, {"metadata": {"name": "small"}, "spec": {"hard": dict(hard)}})
        wait_until(lambda: (self.get(f"{path}/small").get("status") or {}).get("hard") == hard, "the quota", 60)
        return f"{path}/small"

    def looks_of_operator(self, namespace: str) -> int:
        """How often an operator has listed the FineTuneJobs of a namespace, by the audit log."""
        looks = (event["objectRef"] for event in self._of_operator(namespace) if event["verb"] == "list")
        return sum(each["resource"] == "finetunejobs" for each in looks)

    def _of_operator(self, namespace: str) -> Iterator[dict[str, Any]]:
        for event in self._audited(namespace):
            if event.get("userAgent", "").startswith(_OPERATOR):
                yield event

    def _audited(self, namespace: str) -> Iterator[dict[str, Any]]:
        for line in self.audit.read_text().splitlines():
            event = json.loads(line)
            if event.get("objectRef", {}).get("namespace") == namespace:
                yield event

    def _answer(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.is_success, answer.text
        return dict(answer.json())


def _name_of(event: dict[str, Any]) -> str:
    """Of what is written; empty where it was refused before it was read."""
    sent = event.get("requestObject", {}).get("metadata", {})
    return str(event["objectRef"].get("name") or sent.get("name", ""))


def kubernetes_binary() -> Path:
    """All of Kubernetes and etcd in one program, built from their modules when it is not in the cache (7 minutes)."""
    return cached_binary(f"kubernetes-{VERSION}", "building Kubernetes and etcd, about 7 minutes", _build)


def _build(work: Path) -> Path:
    major, minor, _ = VERSION.removeprefix("v").split(".")
    named = {"gitVersion": VERSION, "gitMajor": major, "gitMinor": minor}
    flags = ["-s", "-w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in named.items())]
    target = work / "kubernetes"
    arguments = ["build", "-C", str(SOURCE), "-trimpath", "-ldflags", " ".join(flags), "-o", str(target), "."]
    go(arguments, {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"})
    return target


@contextmanager
def control_plane(work: Path) -> Iterator[ControlPlane]:
    """The servers, with the CRD installed."""
    work.mkdir(parents=True, exist_ok=True)
    secure, client_port, peer_port = free_ports(3)
    plane = _files(work, f"https://127.0.0.1:{secure}")
    commands = _commands(plane, secure, (client_port, peer_port))
    try:
        for name in ("etcd", "apiserver"):
            plane.servers.start(name, commands[name])
        plane.wait_for_api_server()
        plane.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", yaml.safe_load(CRD.read_text()))
        objects = "/apis/tunesmith.dev/v1alpha1/finetunejobs"
        wait_until(lambda: plane.client.get(objects).is_success, "the CRD to be served", _SECONDS)
        # After it: what the garbage collector does not know when it begins it learns half a minute later.
        plane.servers.start("controllers", commands["controllers"])
        yield plane
    finally:
        plane.client.close()
        for name in reversed(list(plane.servers.running)):
            plane.servers.kill(name)


def _commands(plane: ControlPlane, secure: int, etcd_ports: tuple[int, int]) -> dict[str, list[Path | str]]:
    work, binary = plane.servers.work, kubernetes_binary()
    etcd, peer = (f"http://127.0.0.1:{port}" for port in etcd_ports)
    return {
        "etcd": [binary, "etcd", "--data-dir", work / "etcd", "--unsafe-no-fsync", "--log-level=warn",
                 f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
                 f"--listen-peer-urls={peer}"],
        "apiserver": [binary, "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={secure}",
                      "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--cert-dir={work / 'pki'}",
                      f"--token-auth-file={work / 'tokens.csv'}", "--authorization-mode=RBAC",
                      "--service-cluster-ip-range=10.96.0.0/24", "--service-account-issuer=https://kubernetes.test",
                      f"--service-account-key-file={work / 'sa.pub'}",
                      f"--service-account-signing-key-file={work / 'sa.key'}",
                      "--disable-admission-plugins=ServiceAccount",
                      # OpenShift has it: an owner that is to wait is named by those alone who may set its finalizers.
                      "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
                      f"--audit-policy-file={work / 'audit.yaml'}", f"--audit-log-path={plane.audit}"],
        "controllers": [binary, "kube-controller-manager", f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false",
                        f"--controllers={_CONTROLLERS}", "--kube-api-qps=300", "--kube-api-burst=300",
                        "--secure-port=0"],
    }  # fmt: skip


def _files(work: Path, url: str) -> ControlPlane:
    token = secrets.token_urlsafe(16)
    (work / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    (work / "pki").mkdir()
    run_to_end(["openssl", "genrsa", "-out", str(work / "sa.key"), "2048"])
    run_to_end(["openssl", "rsa", "-in", str(work / "sa.key"), "-pubout", "-out", str(work / "sa.pub")])
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    # The API server's own names for its pair, which it takes if they are there.
    authority = work / "pki" / "apiserver.crt"
    run_to_end([*command, "-keyout", str(work / "pki" / "apiserver.key"), "-out", str(authority)])
    kubeconfig = work / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}],
                "users": [{"name": "admin", "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                "current-context": "test",
            }
        )
    )
    headers = {"Authorization": f"Bearer {token}"}
    client = httpx.Client(
        base_url=url, headers=headers, verify=ssl.create_default_context(cafile=authority), timeout=30, trust_env=False
    )
    (work / "audit.yaml").write_text(yaml.safe_dump(_AUDIT))
    return ControlPlane(url, token, authority, kubeconfig, work / "audit.jsonl", client, Servers(work))


if __name__ == "__main__":
    kubernetes_binary()
