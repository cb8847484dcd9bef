"""What Helm renders: settings that the operator reads, rights where they are wanted, and never a key."""

import json
import re
from collections import Counter
from typing import Any

import yaml

from support.control_plane import CRD, ROOT
from support.install_yaml import CHART, FILE, NAMESPACE, templated
from support.install_yaml import rendered as install_yaml
from support.server_binaries import helm_binary, run_to_end
from tunesmith_api.names import JOB_LABEL, STAGE_LABEL
from tunesmith_api.stages import Stage
from tunesmith_operator.settings import OperatorSettings

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
GUIDE = ROOT / "docs" / "security.md"


def rendered(*settings: str) -> list[dict[str, Any]]:
    """The objects of `helm template` with these values."""
    values = [word for setting in settings for word in ("--set-json", setting)]
    return [each for each in yaml.safe_load_all(templated(*values)) if each]


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def settings_of(objects: list[dict[str, Any]]) -> OperatorSettings:
    """As the operator reads them."""
    return OperatorSettings.model_validate(yaml.safe_load(one(objects, "ConfigMap")["data"]["operator.yaml"]))


def test_helm_finds_nothing_wrong() -> None:
    """`helm lint`, strictly."""
    run_to_end([str(helm_binary()), "lint", "--strict", str(CHART)])


def test_without_values_the_operator_has_its_defaults() -> None:
    """But for where pods post their progress, and for the names of what the chart makes."""
    settings, ours = settings_of(rendered()), OperatorSettings()

    assert settings.progress.url == f"http://tunesmith.{NAMESPACE}.svc:8443/"
    assert settings.model_copy(update={"progress": ours.progress, "priority_classes": None}) == ours


def test_the_priority_classes_are_those_that_the_operator_names() -> None:
    """One above and one below what pods have without any; neither puts a pod out. Without them there is no name."""
    objects = rendered()
    named = settings_of(objects).priority_classes
    assert named is not None
    made = {each["metadata"]["name"]: each for each in objects if each["kind"] == "PriorityClass"}

    assert {name: each["value"] for name, each in made.items()} == {named.above: 1000, named.below: -1000}
    assert {each["preemptionPolicy"] for each in made.values()} == {"Never"}
    without = rendered("priorityClasses.enabled=false")
    assert settings_of(without).priority_classes is None
    assert not [each for each in without if each["kind"] == "PriorityClass"]


def test_the_crd_is_the_generated_one_and_outlives_an_uninstall() -> None:
    """With it all jobs would go."""
    crd = one(rendered(), "CustomResourceDefinition")

    assert crd["spec"] == yaml.safe_load(CRD.read_text())["spec"]
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_no_rendered_file_carries_a_key() -> None:
    """Where Helm cannot see a cluster it has no Secret to keep: progress goes by HTTP."""
    objects = rendered()

    assert [each["kind"] for each in objects if each["kind"] == "Secret"] == []
    assert "tls.key" not in yaml.safe_dump(objects)


def test_a_named_certificate_is_mounted_and_used() -> None:
    """cert-manager's, for example."""
    objects = rendered('progress={"secretName": "made-by-cert-manager"}')
    progress = settings_of(objects).progress
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]

    assert progress.url == f"https://tunesmith.{NAMESPACE}.svc:8443/"
    [volume] = [each for each in pod["volumes"] if each["name"] == "tls"]
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "tls"]
    assert (volume["secret"]["secretName"], mount["mountPath"]) == ("made-by-cert-manager", progress.certificates)


def test_progress_can_be_turned_off() -> None:
    """Then there is no Service, and no port."""
    objects = rendered('progress={"enabled": false}')

    assert settings_of(objects).progress.url is None
    assert "Service" not in [each["kind"] for each in objects]


def test_notifications_are_signed_with_a_secret_that_is_mounted() -> None:
    """And go nowhere unless they are asked for."""
    assert settings_of(rendered()).notifications is None
    objects = rendered('notifications={"url": "https://sink/jobs", "secretName": "sink"}')
    told = settings_of(objects).notifications
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]

    assert told is not None
    assert told.key_file is not None
    [volume] = [each for each in pod["volumes"] if each["name"] == "notifications"]
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "notifications"]
    assert (volume["secret"]["secretName"], told.url) == ("sink", "https://sink/jobs")
    assert told.key_file == f"{mount['mountPath']}/key"


def test_with_namespaces_it_has_rights_in_these_alone() -> None:
    """A Role and its binding in each, and none that holds in the whole cluster."""
    objects = rendered('namespaces=["a", "b"]')
    kinds = [(each["kind"], each["metadata"].get("namespace")) for each in objects]

    assert {("Role", "a"), ("Role", "b"), ("RoleBinding", "a"), ("RoleBinding", "b")} <= set(kinds)
    assert not [kind for kind, _ in kinds if kind == "ClusterRoleBinding"]
    arguments = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[1:] == ["--namespace=a", "--namespace=b"]


def test_the_guide_gives_a_reason_for_each_right() -> None:
    """One for every right that the operator has, and none that it has not."""
    rules = next(each for each in rendered() if each["kind"] == "ClusterRole")["rules"]
    said = Counter[tuple[str, str]]()
    for resource, verbs in re.findall(r"^\| `([a-z/]+)`: ([a-z, ]+) \|", GUIDE.read_text(), re.MULTILINE):
        said.update((resource, verb) for verb in verbs.split(", "))

    assert said == Counter((each, verb) for rule in rules for each in rule["resources"] for verb in rule["verbs"])


def test_its_own_pod_is_as_restricted_as_those_of_the_stages() -> None:
    """Pod Security 'restricted', and a root file system that nobody writes to."""
    pod = one(rendered(), "Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["readOnlyRootFilesystem"]
    assert not container["allowPrivilegeEscalation"]
    assert container["capabilities"] == {"drop": ["ALL"]}


def test_operator_settings_pass_through_as_they_are_written() -> None:
    """What the chart does not know of, the operator's own reading refuses."""
    store = '{"uri": "s3://models", "secretRef": {"name": "store"}}'
    settings = settings_of(rendered(f'config={{"store": {store}, "quantizationsAtOnce": 4}}'))

    assert settings.store is not None
    assert (settings.store.uri, settings.quantizations_at_once) == ("s3://models", 4)


def test_the_file_for_those_without_helm_is_the_chart_rendered() -> None:
    """'make install-yaml' writes it."""
    assert FILE.read_text() == install_yaml()
    assert one(list(yaml.safe_load_all(FILE.read_text())), "Namespace")["metadata"]["name"] == NAMESPACE


def test_an_operator_that_hangs_is_started_again() -> None:
    """It answers from the one loop that does everything else, so that a loop that stands still answers nobody.

    By plain HTTP on a port that is there whatever progress is.
    """
    for values in ([], ['progress={"enabled": false}'], ["config.metricsPort=9090"]):
        container = one(rendered(*values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
        asked = {"path": "/healthz", "port": "metrics"}
        assert {probe: container[probe]["httpGet"] for probe in PROBES} == dict.fromkeys(PROBES, asked)
        [port] = [each["containerPort"] for each in container["ports"] if each["name"] == "metrics"]
        assert port == settings_of(rendered(*values)).metrics_port


def test_users_get_the_rights_of_the_cluster_s_own_roles() -> None:
    """An object of a namespace that its editors may not make would be of no use to them."""
    roles = [each for each in rendered() if "aggregate-to" in str(each["metadata"].get("labels"))]
    verbs = {
        label.rpartition("-")[2]: set(role["rules"][0]["verbs"])
        for role in roles
        for label in role["metadata"]["labels"]
        if label.startswith("rbac.authorization.k8s.io/aggregate-to-")
    }

    view = {"get", "list", "watch"}
    assert verbs == {"view": view, "edit": view | {"create", "update", "patch", "delete"}}
    assert {tuple(role["rules"][0]["resources"]) for role in roles} == {("finetunejobs",)}


def test_a_prometheus_operator_finds_the_operator_and_its_alerts() -> None:
    """Where it is asked for, by the labels that it chooses by; the alerts are those of the file."""
    assert not [each for each in rendered() if each["apiVersion"].startswith("monitoring")]
    chosen = '{"enabled": true, "labels": {"release": "prometheus"}}'
    objects = rendered(f"podMonitor={chosen}", f"prometheusRule={chosen}")
    (monitor, _), rule, pod = monitors(objects), one(objects, "PrometheusRule"), one(objects, "Deployment")

    template = pod["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert {each["metadata"]["labels"].get("release") for each in [*monitors(objects), rule]} == {"prometheus"}


def test_it_finds_trainings_where_the_operator_runs_jobs() -> None:
    """By the label of the stage, at the port that their pods name; the series get the job's name."""
    everywhere = monitors(rendered("podMonitor.enabled=true"))[1]["spec"]
    in_two = monitors(rendered("podMonitor.enabled=true", 'namespaces=["a", "b"]'))[1]["spec"]

    assert everywhere["namespaceSelector"] == {"any": True}
    assert in_two["namespaceSelector"] == {"matchNames": ["a", "b"]}
    assert everywhere["selector"]["matchLabels"] == {STAGE_LABEL: Stage.TRAIN.value}
    [endpoint] = everywhere["podMetricsEndpoints"]
    # Prometheus' names of labels have no dot and no slash (kubernetes_sd_config).
    label = re.sub(r"[^a-zA-Z0-9_]", "_", JOB_LABEL)
    assert endpoint["relabelings"][0]["sourceLabels"] == [f"__meta_kubernetes_pod_label_{label}"]


def monitors(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == "PodMonitor"]


def test_grafana_s_sidecar_finds_the_dashboard() -> None:
    """As it is in the file, by the label that it chooses by."""
    shown = [each for each in rendered("grafanaDashboard.enabled=true") if "dashboard" in each["metadata"]["name"]]
    [found] = shown

    assert json.loads(found["data"]["tunesmith.json"]) == json.loads((CHART / "files" / "dashboard.json").read_text())
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
