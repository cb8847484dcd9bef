"""The rights that the chart gives the operator are those that it uses, by the API server's audit log."""

import json
from pathlib import Path

import jwt
import yaml

from support.applied import SPEC, Applied
from support.builders import a_spec
from support.control_plane import ControlPlane
from support.install_yaml import templated
from support.kubelet import Kubelet
from support.operator_account import operator_account
from support.operator_process import applied, operator
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_api.failures import FailureClass

# Looked at by an admission plugin when a Job is made that names its owner (OwnerReferencesPermissionEnforcement); it is
# no request of its own.
_NO_REQUEST = ("tunesmith.dev", "finetunejobs/finalizers", "update")


def granted(namespace: str) -> set[tuple[str, str, str]]:
    """By the Role that the chart renders."""
    text = templated("--set-json", f"namespaces={json.dumps([namespace])}", "--show-only", "templates/rbac.yaml")
    [role] = [each for each in yaml.safe_load_all(text) if each["kind"] == "Role"]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_every_right_is_used_and_no_other_is_missed(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """In jobs that come to their end, wait for what the cluster does not give, are suspended, and are over."""
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, SPEC))
    account = operator_account(plane, tmp_path, namespace)
    token = yaml.safe_load(account.read_text())["users"][0]["user"]["token"]
    with operator(account, tmp_path, namespace):
        job.kubelet.pod_of("bot", "prepare")
        quota = plane.limit(namespace, {"pods": "0"})
        job.done("prepare")
        job.until(lambda status: "no pod can be made" in status["message"], "what keeps it from having a pod")
        plane.delete(quota)
        job.edit(suspend=True)
        job.is_in("Suspended")
        short = applied(plane, namespace, a_spec(datasets=ROWS, ttlSecondsAfterFinished=0), "short")
        kubelet = Kubelet(plane, namespace)
        kubelet.fail(kubelet.pod_of("short", "prepare"), FailureClass.SPEC_INVALID)
        wait_until(lambda: plane.client.get(short).status_code == 404, "the other to be deleted", 120)

    user = jwt.decode(token, options={"verify_signature": False})["sub"]
    assert plane.rights_used(user) == granted(namespace) - {_NO_REQUEST}
    assert "forbidden" not in (tmp_path / "operator.log").read_text()
