"""The batch/v1 Job of a stage, whose pod has no credentials, no rights and no writable root (invariant 7)."""

from dataclasses import dataclass
from typing import Any

from tunesmith_api.failures import FAILURES, FailureClass
from tunesmith_api.names import AUTHORITIES_VARIABLE, CLAIMS_VARIABLE, CONTAINER, JOB_LABEL, STAGE_LABEL
from tunesmith_api.stages import Stage, StageRequest
from tunesmith_operator.names import (
    AUDIENCE,
    GIVEN_ANNOTATION,
    KEYS_ANNOTATION,
    LIMIT_ANNOTATION,
    REQUEST_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TURN_ANNOTATION,
    digest_of,
)
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.tries import FINAL

SCRATCH, SECRETS, REQUEST_FOLDER = "/scratch", "/etc/tunesmith/secrets", "/etc/tunesmith/request"
REQUEST_FILE, CA_FOLDER, CLAIMS = "request.json", "/etc/tunesmith/ca", "/claims"
# Where the kubelet reads a container's last words (its default, terminationMessagePath).
RESULT_FILE = "/dev/termination-log"
TOKEN_FOLDER, TOKEN_FILE = "/etc/tunesmith/token", "token"  # where it is, not what
# The kubelet renews it when four fifths are over (Kubernetes documentation, service account token volume projection).
_TOKEN_SECONDS = 3600
# Where a training serves its live metrics; a PodMonitor knows the port by its name.
METRICS_PORT = 8080
_METRICS = {"name": "metrics", "containerPort": METRICS_PORT}


@dataclass(frozen=True, slots=True)
class StagePlace:
    """Where and with what a stage runs: the merged placement, Secrets and claims to mount, sizes in bytes, seconds."""

    place: dict[str, Any]
    secrets: tuple[str, ...]
    claims: tuple[str, ...]
    scratch_bytes: int
    memory_bytes: int
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """Whose Job it is and which: the object's name and UID, the stage's name in the plan, keys as JSON, turn.

    `given` are digests of what its failures may be for want of, `limit` is spec.activeDeadlineSeconds.
    """

    name: str
    owner: str
    uid: str
    namespace: str
    stage: str
    keys: str
    turn: int
    given: str = ""
    limit: int | None = None


def pod_template(
    request: StageRequest, of: JobIdentity, where: StagePlace, settings: OperatorSettings
) -> dict[str, Any]:
    """What a stage's pod is made from; its digest says whether a Job is still the one that is wanted."""
    # What the operator finds its own by has the last word.
    labels = where.place.get("labels", {}) | {JOB_LABEL: of.owner, STAGE_LABEL: of.stage}
    own = {REQUEST_ANNOTATION: request.model_dump_json(by_alias=True, exclude_none=True)}
    annotations = where.place.get("annotations", {}) | own | {TURN_ANNOTATION: str(of.turn)}
    place = where.place
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": where.grace_seconds,
        # No runAsUser: the image has one, and a cluster may give another (OpenShift gives each namespace a range).
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(request.stage, where, settings)],
        "volumes": _volumes(where, settings),
    }
    if request.progress is not None:
        spec["volumes"].append(_token_volume())
        spec["containers"][0]["volumeMounts"].append({"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True})
    names = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName", "serviceAccountName")
    spec |= {name: place[name] for name in (*names, "imagePullSecrets") if place.get(name)}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def stage_job(
    template: dict[str, Any], of: JobIdentity, backoff_limit: int, seconds: int | None = None
) -> dict[str, Any]:
    """The Job around a pod template, owned by its object so that it goes with it, the operator up or not.

    `seconds` is how long it may run by itself.
    """
    owner = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "name": of.owner, "uid": of.uid}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": of.name,
            "namespace": of.namespace,
            # Not the object's own labels: tools that track what they deployed by labels would prune it.
            "labels": template["metadata"]["labels"],
            "annotations": _added(template)
            | {
                KEYS_ANNOTATION: of.keys,
                TURN_ANNOTATION: str(of.turn),
                TEMPLATE_ANNOTATION: digest_of(template),
                GIVEN_ANNOTATION: of.given,
                LIMIT_ANNOTATION: str(of.limit or ""),
            },
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
        },
        "spec": {
            "backoffLimit": backoff_limit,
            **({} if seconds is None else {"activeDeadlineSeconds": seconds}),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": failure_policy(),
            "template": template,
        },
    }


def _added(template: dict[str, Any]) -> dict[str, str]:
    """The pod's annotations that are not the operator's: the manifest's, and its installer's."""
    own = (REQUEST_ANNOTATION, TURN_ANNOTATION)
    return {name: value for name, value in template["metadata"]["annotations"].items() if name not in own}


def failure_policy() -> dict[str, Any]:
    """Which ends of a pod count, from the table of classes (contract 10).

    The first rule that matches holds: a pod that the cluster took away is not counted whatever its exit code.
    """
    interrupted = FAILURES[FailureClass.INTERRUPTED].exit_code
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "Ignore", "onExitCodes": _codes([interrupted])},
            {"action": "FailJob", "onExitCodes": _codes(FINAL)},
        ]
    }


def _codes(values: list[int]) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": values}


def _container(stage: Stage, where: StagePlace, settings: OperatorSettings) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": settings.images.of(stage),
        "imagePullPolicy": settings.images.pull_policy,
        "args": [stage.value, "--request", f"{REQUEST_FOLDER}/{REQUEST_FILE}", "--result", RESULT_FILE],
        "workingDir": SCRATCH,
        "env": [{"name": name, "value": value} for name, value in _environment(settings).items()],
        "resources": _resources(where),
        **({"ports": [_METRICS]} if stage is Stage.TRAIN else {}),
        "terminationMessagePath": RESULT_FILE,
        # A stage that dies before it has answered leaves its last lines instead.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(where, settings),
    }


def _environment(settings: OperatorSettings) -> dict[str, str]:
    """Everything that a library would write somewhere goes into scratch; how to reach the outside."""
    network = settings.network
    told = {
        "HOME": f"{SCRATCH}/home",
        "TUNESMITH_CACHE": f"{SCRATCH}/cache",
        CLAIMS_VARIABLE: CLAIMS,
        "HF_HOME": f"{SCRATCH}/hub",
        "HF_ENDPOINT": network.hub_endpoint,
        "HTTPS_PROXY": network.https_proxy,
        "HTTP_PROXY": network.http_proxy,
        "NO_PROXY": network.no_proxy,
        AUTHORITIES_VARIABLE: None if network.ca_config_map is None else f"{CA_FOLDER}/ca.crt",
    }
    return {name: value for name, value in told.items() if value is not None}


def _resources(where: StagePlace) -> dict[str, Any]:
    """What the manifest asks for, and where it is silent what the plan estimates."""
    asked = where.place.get("resources", {})
    limits = dict(asked.get("limits", {}))
    requests = {"memory": str(where.memory_bytes), "ephemeral-storage": str(where.scratch_bytes)}
    requests = {name: value for name, value in requests.items() if name not in limits} | asked.get("requests", {})
    return {"requests": requests, "limits": limits} if limits else {"requests": requests}


def _volumes(where: StagePlace, settings: OperatorSettings) -> list[dict[str, Any]]:
    request = {"path": REQUEST_FILE, "fieldRef": {"fieldPath": f"metadata.annotations['{REQUEST_ANNOTATION}']"}}
    volumes: list[dict[str, Any]] = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "request", "downwardAPI": {"items": [request]}},
    ]
    # Optional: a Secret that is absent is reported by the stage, by name, instead of a pod that never starts.
    volumes += [
        {"name": f"secret-{index}", "secret": {"secretName": name, "optional": True}}
        for index, name in enumerate(where.secrets)
    ]
    volumes += [
        {"name": f"claim-{index}", "persistentVolumeClaim": {"claimName": name, "readOnly": True}}
        for index, name in enumerate(where.claims)
    ]
    ca = settings.network.ca_config_map
    return volumes + ([] if ca is None else [{"name": "ca", "configMap": {"name": ca}}])


def _token_volume() -> dict[str, Any]:
    """What the pod shows to the operator, and the API server does not take: it gives the pod no right."""
    token = {"audience": AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": TOKEN_FILE}
    return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}


def _mounts(where: StagePlace, settings: OperatorSettings) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "scratch", "mountPath": SCRATCH, "subPath": "work"},
        {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108  # the pod's own
        {"name": "request", "mountPath": REQUEST_FOLDER, "readOnly": True},
    ]
    mounts += [
        {"name": f"secret-{index}", "mountPath": f"{SECRETS}/{name}", "readOnly": True}
        for index, name in enumerate(where.secrets)
    ]
    mounts += [
        {"name": f"claim-{index}", "mountPath": f"{CLAIMS}/{name}", "readOnly": True}
        for index, name in enumerate(where.claims)
    ]
    ca = settings.network.ca_config_map is not None
    return mounts + ([{"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}] if ca else [])
