"""The operator's ServiceAccount in a control plane of the tests: with the rights that the chart gives it alone."""

import json
from pathlib import Path
from typing import Any

import yaml

from support.control_plane import ControlPlane
from support.install_yaml import templated
from support.waiting import wait_until

_SECONDS = 60.0
_TEMPLATES = ("templates/serviceaccount.yaml", "templates/rbac.yaml")


def operator_account(plane: ControlPlane, folder: Path, *namespaces: str) -> Path:
    """The kubeconfig of a new one, in `folder`; where namespaces are named it has its rights in these alone."""
    own = plane.create("/api/v1/namespaces", {"metadata": {"generateName": "operator-"}})["metadata"]["name"]
    shown = [word for template in _TEMPLATES for word in ("--show-only", template)]
    text = templated("--set-json", f"namespaces={json.dumps(namespaces)}", *shown, release=own, namespace=own)
    made = [plane.create(_collection(body), body) for body in yaml.safe_load_all(text)]
    [account] = [body["metadata"] for body in made if body["kind"] == "ServiceAccount"]
    path = f"/api/v1/namespaces/{own}/serviceaccounts/{account['name']}/token"
    token = plane.create(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    for namespace in namespaces or (own,):
        wait_until(lambda within=namespace: _may_see(plane, token, within), "the operator's rights", _SECONDS)
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    (folder / "operator.kubeconfig").write_text(yaml.safe_dump(config))
    return folder / "operator.kubeconfig"


def _collection(body: dict[str, Any]) -> str:
    version, namespace = body["apiVersion"], body["metadata"].get("namespace")
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    within = "" if namespace is None else f"/namespaces/{namespace}"
    return f"{root}{within}/{body['kind'].lower()}s"


def _may_see(plane: ControlPlane, token: str, namespace: str) -> bool:
    path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
    return plane.client.get(path, headers={"Authorization": f"Bearer {token}"}).is_success
