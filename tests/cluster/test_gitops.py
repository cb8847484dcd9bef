"""What GitOps tools take a job for, in every state that it has in a real API server."""

from pathlib import Path

import yaml

from support.applied import SPEC, Applied
from support.control_plane import ROOT, ControlPlane, kubernetes_binary
from support.gitops import taken_for
from support.install_yaml import FILE
from support.kubelet import Kubelet
from support.operator_account import operator_account
from support.operator_process import applied, operator
from support.server_binaries import run_to_end
from tunesmith_api.failures import FailureClass

IN_PROGRESS = ("Progressing", "InProgress", "InProgress")
# Flux would wait for what is suspended, were it not told otherwise: kstatus has no word for it.
SUSPENDED = ("Suspended", "Current", "InProgress")
COMPLETE, FAILED = ("Healthy", "Current", "Current"), ("Degraded", "Failed", "Failed")


def test_tools_see_a_job_as_it_stands(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """From before any operator has seen it to its end, suspended and failed in between; then with a change."""
    job = Applied(plane, Kubelet(plane, namespace), applied(plane, namespace, SPEC))
    seen = [(job.object, IN_PROGRESS)]
    with operator(operator_account(plane, tmp_path, namespace), tmp_path, namespace):
        job.is_in("Pending")
        seen.append((job.object, IN_PROGRESS))
        job.kubelet.begin(job.kubelet.pod_of("bot", "prepare"))
        job.is_in("Running")
        seen.append((job.object, IN_PROGRESS))
        job.edit(suspend=True)
        job.is_in("Suspended")
        seen.append((job.object, SUSPENDED))
        job.edit(suspend=False)
        job.done("prepare")
        job.kubelet.fail(job.kubelet.pod_of("bot", "train"), FailureClass.TRAINING_DIVERGED)
        failed = job.is_in("Failed")
        seen.append((job.object, FAILED))
        plane.patch(job.path, {"metadata": {"annotations": {"tunesmith.dev/retry": "1"}}})
        job.completed()
    seen.append((job.object, COMPLETE))
    job.edit(backoffLimit=5)
    seen.append((job.object, IN_PROGRESS))

    taken = taken_for([each for each, _ in seen])
    assert [(each.argocd, each.flux, each.kstatus) for each in taken] == [wanted for _, wanted in seen]
    assert taken[4].message == failed["message"]


def test_the_kustomize_base_and_the_example_build() -> None:
    """By kubectl's own kustomize; the base is the file for those without Helm."""

    def built(folder: str) -> list[dict[str, object]]:
        text = run_to_end([str(kubernetes_binary()), "kubectl", "kustomize", str(ROOT / folder)])
        return [each for each in yaml.safe_load_all(text) if each]

    def names(objects: list[dict[str, object]]) -> set[tuple[object, object]]:
        return {(each["kind"], dict(each["metadata"])["name"]) for each in objects}  # type: ignore[call-overload]

    assert names(built("charts")) == names([each for each in yaml.safe_load_all(FILE.read_text()) if each])
    assert ("FineTuneJob", "support-bot-v1") in names(built("examples/gitops/models"))


def test_the_example_s_jobs_are_taken(plane: ControlPlane, namespace: str) -> None:
    """By the API server, with its CEL rules."""
    body = yaml.safe_load((ROOT / "examples" / "gitops" / "models" / "support-bot-v1.yaml").read_text())
    path = f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"

    assert plane.create(path, body)["metadata"]["name"] == "support-bot-v1"
