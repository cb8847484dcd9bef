"""A stage's Job as the API server gets it: no credentials, no rights, what the manifest places, what may be retried."""

import json
from typing import Any

import pytest

from support.builders import a_plan, a_spec, resolved
from support.small_cluster import ROWS, RULES, Cluster, job_of, one_pass, until
from tunesmith_api.effective import resolve_settings
from tunesmith_api.failures import FAILURES, FailureClass
from tunesmith_api.names import JOB_LABEL
from tunesmith_api.needs import GIBIBYTE, grace_seconds, memory_bytes, scratch_bytes
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import Stage, StageRequest
from tunesmith_api.status import StageStatus
from tunesmith_operator.asking import request_of
from tunesmith_operator.course import course_of
from tunesmith_operator.decide import CreateJob
from tunesmith_operator.names import REQUEST_ANNOTATION, job_name
from tunesmith_operator.placing import claims, placed, secret_names, with_gpu
from tunesmith_operator.pod import JobIdentity, StagePlace, failure_policy, pod_template, stage_job
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.storing import store_of

SETTINGS = OperatorSettings.model_validate({"store": {"uri": "s3://bucket/prefix", "secretRef": {"name": "store"}}})
STORE = {"uri": "s3://own", "secretRef": {"name": "own"}, "caSecretRef": {"name": "authority"}}


def a_job(spec: JobSpec, settings: OperatorSettings = SETTINGS) -> dict[str, Any]:
    """prepare's Job."""
    world = Cluster(spec=spec).world()
    course = course_of(world, world.status)
    stage = course.plan.stages[0]
    request = request_of(world, course, stage, StageStatus(name=stage.name), settings)
    identity = JobIdentity(course.job_name_of(stage), world.name, world.uid, world.namespace, stage.name, "{}", 0)
    place = StagePlace(
        placed(stage.stage, spec, settings), secret_names(stage.stage, spec, request.store), (), 10, 20, 30
    )
    return stage_job(pod_template(request, identity, place, settings), identity, spec.backoff_limit)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return dict(job["spec"]["template"]["spec"])


def test_the_pod_has_no_credentials_and_no_rights() -> None:
    """Invariant 7; the API server's own check of Pod Security 'restricted' is in tests/cluster."""
    pod = pod_of(a_job(a_spec()))
    (container,) = pod["containers"]

    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not [entry for entry in container["env"] if "valueFrom" in entry]


def test_the_request_is_an_annotation_that_the_stage_reads() -> None:
    """Contract 1: it parses as the stage parses it, and holds no secret, only their names."""
    annotation = a_job(a_spec(store=STORE))["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    request = StageRequest.model_validate_json(annotation)

    assert (request.stage, request.store.uri, request.store.secret) == (Stage.PREPARE, "s3://own", "own")
    assert request.execution["spec"]["model"] == {"source": "hf://org/model"}


def test_a_job_without_a_store_gets_the_operators() -> None:
    """And none where there is none: an error with what to do."""
    annotation = a_job(a_spec())["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    assert json.loads(annotation)["store"]["uri"] == "s3://bucket/prefix"
    with pytest.raises(ValueError, match=r"set spec\.store"):
        a_job(a_spec(), OperatorSettings())


def test_secrets_are_mounted_where_they_are_read_and_may_be_absent() -> None:
    """The store's by all stages, the sources' by prepare, the hub's by publish; prepare looks whether that is there."""
    spec = a_spec(
        store=STORE,
        model={"source": "hf://org/model", "secretRef": {"name": "hub"}},
        datasets=[{"source": "s3://a/b.jsonl", "secretRef": {"name": "rows"}}],
        publish={"hub": {"repo": "org/name", "secretRef": {"name": "writer"}}},
    )
    store = store_of(Cluster(spec=spec).world(), SETTINGS)
    assert secret_names(Stage.PREPARE, spec, store) == ("own", "authority", "hub", "rows", "writer")
    assert secret_names(Stage.TRAIN, spec, store) == ("own", "authority")
    assert secret_names(Stage.PUBLISH, spec, store) == ("own", "authority", "writer")
    volumes = [volume["secret"] for volume in pod_of(a_job(spec))["volumes"] if "secret" in volume]
    assert {volume["secretName"]: volume["optional"] for volume in volumes} == {
        "own": True, "authority": True, "hub": True, "rows": True, "writer": True,
    }  # fmt: skip


def test_claims_are_those_of_the_sources() -> None:
    """Each once."""
    rows = [{"source": "pvc://data/a.jsonl"}, {"source": "pvc://data/b.jsonl"}]
    assert claims(a_spec(model={"source": "pvc://models/llama"}, datasets=rows)) == ("models", "data")


def test_the_manifest_has_the_last_word_on_placement() -> None:
    """Operator's *, its stage, manifest's *, its stage: maps are merged, lists joined, the last value holds."""
    settings = OperatorSettings.model_validate(
        {
            "placement": [
                {"name": "*", "nodeSelector": {"pool": "cpu"}, "priorityClassName": "low"},
                {"name": "train", "tolerations": [{"key": "gpu", "operator": "Exists"}]},
            ]
        }
    )
    spec = a_spec(
        stages=[
            {"name": "*", "labels": {"team": "a"}, "resources": {"requests": {"cpu": 1, "memory": "1Gi"}}},
            {"name": "train", "nodeSelector": {"pool": "gpu"}, "resources": {"requests": {"cpu": 4}}},
            {"name": "convert", "labels": {"team": "b"}},
        ]
    )
    assert placed(Stage.TRAIN, spec, settings) == {
        "nodeSelector": {"pool": "gpu"},
        "priorityClassName": "low",
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "labels": {"team": "a"},
        "resources": {"requests": {"cpu": "4", "memory": "1Gi"}, "limits": {}},
    }


def test_a_training_asks_for_its_gpu() -> None:
    """By the resource, the nodes' label, and the usual taint; every term of an own affinity has to have the memory."""
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    needed = "requiredDuringSchedulingIgnoredDuringExecution"
    spec = a_spec(
        training={"gpu": {"memory": "24Gi"}},
        stages=[{"name": "train", "affinity": {"nodeAffinity": {needed: {"nodeSelectorTerms": [term]}}}}],
    )
    place = with_gpu(placed(Stage.TRAIN, spec, SETTINGS), spec, SETTINGS)

    assert place["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert place["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    memory = {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": [str(int(24 * 1024 * 0.9) - 1)]}
    # What the label of an L4, sold as 24 GB, says.
    assert int(memory["values"][0]) < 23_034
    (found,) = place["affinity"]["nodeAffinity"][needed]["nodeSelectorTerms"]
    assert found["matchExpressions"] == [*term["matchExpressions"], memory]
    product = a_spec(training={"gpu": {"product": "NVIDIA-L4"}})
    assert with_gpu({}, product, SETTINGS)["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    assert with_gpu({}, a_spec(), SETTINGS) == {}


def test_what_the_cluster_takes_away_is_never_counted() -> None:
    """The first rule; then what was asked to stop; what cannot heal ends the Job at once (contract 10)."""
    taken, stopped, final = failure_policy()["rules"]

    assert (taken["action"], taken["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget", "status": "True"}])
    assert (stopped["action"], stopped["onExitCodes"]["values"]) == ("Ignore", [34])
    assert final["action"] == "FailJob"
    assert FAILURES[FailureClass.DATASET_INVALID].exit_code in final["onExitCodes"]["values"]
    assert FAILURES[FailureClass.STORE_UNAVAILABLE].exit_code not in final["onExitCodes"]["values"]


@pytest.mark.parametrize("stage", list(Stage))
def test_the_longest_name_is_a_dns_label(stage: Stage) -> None:
    """metadata.name has at most 40 characters; a Job's name becomes a label of its pods."""
    assert len(job_name("x" * 40, stage, "0" * 64)) <= 63


def test_what_the_operator_finds_its_own_by_has_the_last_word() -> None:
    """A label of ours in the manifest hides no Job; what else is asked for stands on Job and pod."""
    labels = {JOB_LABEL: "another", "team": "a"}
    annotations = {REQUEST_ANNOTATION: "{}", "cost-center": "7"}
    job = a_job(a_spec(stages=[{"name": "prepare", "labels": labels, "annotations": annotations}]))
    pod = job["spec"]["template"]["metadata"]

    for found in (job["metadata"], pod):
        assert (found["labels"][JOB_LABEL], found["labels"]["team"]) == ("job", "a")
        assert found["annotations"]["cost-center"] == "7"
    assert StageRequest.model_validate_json(pod["annotations"][REQUEST_ANNOTATION]).stage is Stage.PREPARE
    assert REQUEST_ANNOTATION not in job["metadata"]["annotations"]


def test_how_to_reach_the_outside_is_told_to_every_pod() -> None:
    """Proxies, the hub's mirror and authorities as the operator's settings have them; nothing where they have none."""
    network = {
        "httpsProxy": "http://proxy:3128", "httpProxy": "http://proxy:3128", "noProxy": ".svc",
        "hubEndpoint": "https://mirror", "caConfigMap": "authorities",
    }  # fmt: skip
    told = SETTINGS.model_copy(update={"network": OperatorSettings.model_validate({"network": network}).network})
    pod = pod_of(a_job(a_spec(), told))
    (container,) = pod["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}

    assert environment.items() >= {
        "HTTPS_PROXY": "http://proxy:3128", "HTTP_PROXY": "http://proxy:3128", "NO_PROXY": ".svc",
        "HF_ENDPOINT": "https://mirror", "TUNESMITH_AUTHORITIES": "/etc/tunesmith/ca/ca.crt",
    }.items()  # fmt: skip
    assert {"name": "ca", "configMap": {"name": "authorities"}} in pod["volumes"]
    assert {"name": "ca", "mountPath": "/etc/tunesmith/ca", "readOnly": True} in container["volumeMounts"]
    silent = pod_of(a_job(a_spec()))["containers"][0]["env"]
    assert not {each["name"] for each in silent} & {"HTTPS_PROXY", "HF_ENDPOINT", "TUNESMITH_AUTHORITIES"}


def test_what_places_a_pod_is_taken_over() -> None:
    """Each field of spec.stages that has a place in a pod."""
    place = {
        "priorityClassName": "high", "runtimeClassName": "nvidia", "serviceAccountName": "trainer",
        "imagePullSecrets": [{"name": "registry"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    }  # fmt: skip
    pod = pod_of(a_job(a_spec(stages=[{"name": "*", **place}])))

    assert {name: pod[name] for name in place} == place


def test_sizes_and_grace_come_from_the_plan() -> None:
    """What is estimated is asked for, unless the manifest asks for something itself."""
    pod = pod_of(a_job(a_spec()))
    assert pod["terminationGracePeriodSeconds"] == 30
    assert pod["containers"][0]["resources"] == {"requests": {"memory": "20", "ephemeral-storage": "10"}}
    limits = {"resources": {"limits": {"memory": "4Gi"}}}
    asked = pod_of(a_job(a_spec(stages=[{"name": "prepare", **limits}])))
    assert asked["containers"][0]["resources"] == {"requests": {"ephemeral-storage": "10"}, **limits["resources"]}


def test_a_training_is_sized_by_what_is_known_of_its_model() -> None:
    """Its memory, disk and grace are those that `tunesmith plan` reckons with, once prepare has seen the model."""
    cluster = Cluster(spec=a_spec(datasets=ROWS))
    until(cluster, "prepare")
    cluster.complete(job_of(cluster, "prepare"))
    [made] = [each.job for each in one_pass(cluster).actions if isinstance(each, CreateJob)]
    [train] = [stage for stage in a_plan(cluster.spec).stages if stage.stage is Stage.TRAIN]
    known = (train, resolved(cluster.spec), resolve_settings("job", cluster.spec, resolved(cluster.spec)))

    [container] = pod_of(made)["containers"]
    memory, disk = memory_bytes(*known, gpu=False), scratch_bytes(*known)
    assert container["resources"] == {"requests": {"memory": str(memory), "ephemeral-storage": str(disk)}}
    assert pod_of(made)["terminationGracePeriodSeconds"] == grace_seconds(*known)
    assert (memory, disk) != (2 * GIBIBYTE, 20 * GIBIBYTE)


@pytest.mark.parametrize(("priority", "name"), [(7, "above"), (0, None), (-1, "below")])
def test_a_priority_is_the_class_that_the_installer_names(priority: int, name: str | None) -> None:
    """Unless the manifest names one itself; without classes it says nothing."""
    classes = {"priorityClasses": {"above": "above", "below": "below"}}
    told = OperatorSettings.model_validate({**classes, "store": {"uri": "s3://bucket/prefix"}})
    own = a_spec(priority=priority, stages=[{"name": "*", "priorityClassName": "own"}])

    assert pod_of(a_job(a_spec(priority=priority), told)).get("priorityClassName") == name
    assert pod_of(a_job(own, told))["priorityClassName"] == "own"
    assert "priorityClassName" not in pod_of(a_job(a_spec(priority=priority)))


def test_a_training_alone_serves_live_metrics() -> None:
    """On the port that it is asked to, by the name that a PodMonitor of the chart has."""
    cluster = Cluster()
    until(cluster, "train")
    job, other = (course_job(cluster, stage) for stage in (Stage.TRAIN, Stage.CONVERT))

    asked = StageRequest.model_validate_json(
        job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    ).metrics_port
    assert pod_of(job)["containers"][0]["ports"] == [{"name": "metrics", "containerPort": asked}]
    assert "ports" not in pod_of(other)["containers"][0]
    assert "metricsPort" not in other["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]


def course_job(cluster: Cluster, stage: Stage) -> dict[str, Any]:
    """The Job that a stage is wanted to run in now."""
    world = cluster.world()
    course = course_of(world, world.status)
    planned = next(each for each in course.plan.stages if each.stage is stage)
    return RULES.job(world, course, planned, StageStatus(name=planned.name))
