"""All that the chart renders is what Kubernetes takes, from the oldest version that it is for on."""

import json

import pytest
import yaml

from support.control_plane import ROOT
from support.install_yaml import FILE, templated
from support.kubeconform import KUBERNETES, problems

# Everything that is off by itself.
EVERYTHING = {
    "config": {
        "store": {"uri": "s3://models", "endpoint": "http://minio.minio.svc:9000", "secretRef": {"name": "store"}}
    },
    "jobNamespaces": [{"name": "team-a", "imagePullSecrets": [{"name": "registry"}]}, {"name": "team-b"}],
    "networkPolicies": {"enabled": True},
    "admissionPolicies": {"enabled": True, "stores": ["s3://models"], "maxGpus": 1, "images": ["ghcr.io/"]},
    "notifications": {"url": "https://sink/jobs", "secretName": "sink"},
    "gc": {"enabled": True},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "progress": {"secretName": "certificate"},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "podAnnotations": {"a": "b"},
    "priorityClassName": "system",
}


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_object_is_what_kubernetes_takes(kubernetes: str) -> None:
    """kubeconform, strictly, with our CRD's schema for the examples."""
    values = [word for name, value in EVERYTHING.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    for namespaces in ("[]", '["team-a", "team-b"]'):
        assert problems(templated(*values, "--set-json", f"namespaces={namespaces}"), kubernetes) == []
    assert problems(FILE.read_text(), kubernetes) == []
    for example in ("quickstart-s3.yaml", "gitops/models/support-bot-v1.yaml"):
        assert problems((ROOT / "examples" / example).read_text(), kubernetes) == []


def test_what_it_does_not_take_is_found() -> None:
    """A field that is misspelt in a Deployment, and one of a job."""
    deployment = next(each for each in yaml.safe_load_all(templated()) if each and each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["serviceAccount_Name"] = "x"
    job = yaml.safe_load((ROOT / "examples" / "quickstart-s3.yaml").read_text())
    job["spec"]["quantization"] = ["Q8_0"]

    found = sorted(problems(yaml.safe_dump_all([deployment, job]), KUBERNETES[-1]))
    assert ["serviceAccount_Name" in found[0], "'quantization'" in found[1]] == [True, True], found


def test_in_namespaced_mode_nothing_has_to_be_of_the_whole_cluster() -> None:
    """For who has rights in some namespaces alone; the CRD an administrator has installed."""
    off = {"crds": {"enabled": False}, "userRoles": {"enabled": False}, "priorityClasses": {"enabled": False}}
    values = [word for name, value in off.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    objects = [each for each in yaml.safe_load_all(templated(*values, "--set-json", 'namespaces=["a"]')) if each]

    assert [each["kind"] for each in objects if "namespace" not in each["metadata"]] == []
