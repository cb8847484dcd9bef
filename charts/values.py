"""The values of the chart: their schema, and the page of all settings of the operator.

Their defaults and what each is for stand in tunesmith/values.yaml, which a test holds against these models.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith_api.generate.reference import tables
from tunesmith_api.generate.structural import structural_schema
from tunesmith_api.placement import ObjectName
from tunesmith_api.schema import Api
from tunesmith_operator.settings import OperatorSettings

Labels = dict[str, str]
_INTRODUCTION = """\
# The operator's settings

This page is generated from the operator's models (`make generate`). The settings are one YAML file, which the chart
renders from its value `config`:

```yaml
config:
  store: {uri: s3://models, endpoint: http://minio.minio.svc.cluster.local:9000, secretRef: {name: store}}
  placement:
    - {name: train, tolerations: [{key: nvidia.com/gpu, operator: Exists}]}
```

The chart's other values stand in [its README](../../charts/tunesmith/README.md).

"""


class Image(Api):
    repository: Annotated[str, Field(min_length=1)] = "ghcr.io/tunesmith/operator"
    tag: str = ""
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"


class Crds(Api):
    enabled: bool = True
    keep: bool = True


class Enabled(Api):
    enabled: bool = True


class Progress(Api):
    enabled: bool = True
    secret_name: ObjectName | Literal[""] = ""


class Sink(Api):
    url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    secret_name: ObjectName | Literal[""] = ""
    stuck_seconds: Annotated[int, Field(ge=60)] = 1800


class PodMonitor(Api):
    enabled: bool = False
    labels: Labels = Field(default_factory=dict)
    interval: Annotated[str, Field(pattern=r"^([0-9]+(ms|[smhdwy]))*$")] = ""


class PrometheusRule(Api):
    enabled: bool = False
    labels: Labels = Field(default_factory=dict)


class GrafanaDashboard(Api):
    enabled: bool = False
    labels: Labels = Field(default={"grafana_dashboard": "1"})
    annotations: Labels = Field(default_factory=dict)


class LocalReference(Api):
    name: ObjectName


Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
# A range of addresses: an address, and how many of its bits count.
Range = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]


class JobNamespace(Api):
    name: Namespace
    image_pull_secrets: list[LocalReference] = Field(default_factory=list)


class PolicyStore(Api):
    ports: list[Port] = Field(default_factory=list)
    to: list[dict[str, Any]] = Field(default_factory=list)


class PolicyOutside(Api):
    ports: list[Port] = Field(default=[443, 80])
    except_: list[Range] = Field(default=["169.254.0.0/16"], alias="except")
    except_ipv6: list[Range] = Field(default=["fd00:ec2::254/128", "fe80::/10"], alias="exceptIPv6")


class NetworkPolicies(Api):
    enabled: bool = False
    # A rule without ports would let everything through.
    api_server_ports: Annotated[list[Port], Field(min_length=1)] = Field(default=[443, 6443])
    dns_ports: Annotated[list[Port], Field(min_length=1)] = Field(default=[53, 5353])
    notification_ports: list[Port] = Field(default_factory=list)
    store: PolicyStore = Field(default_factory=PolicyStore)
    outside: PolicyOutside = Field(default_factory=PolicyOutside)


class Resources(Api):
    requests: dict[str, str | int | float] = Field(default_factory=dict)
    limits: dict[str, str | int | float] = Field(default_factory=dict)
    claims: list[dict[str, str]] = Field(default_factory=list)


def _small() -> Resources:
    return Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "512Mi"})


class Gc(Api):
    enabled: bool = False
    # Five fields, or @daily and the like.
    schedule: Annotated[str, Field(pattern=r"^(@[a-z]+|(\S+\s+){4}\S+)$")] = "17 3 * * *"
    service_account_name: ObjectName = "tunesmith-jobs"
    dry_run: bool = False
    resources: Resources = Field(default_factory=_small)


class AdmissionPolicies(Api):
    enabled: bool = False
    stores: list[Annotated[str, Field(pattern=r"^s3://[a-z0-9].*[^/]$")]] = Field(default_factory=list)
    endpoints: list[Annotated[str, Field(pattern=r"^https?://.+$")]] = Field(default_factory=list)
    max_gpus: Annotated[int | None, Field(ge=0)] = None
    max_gpu_memory: Annotated[str, Field(pattern=r"^([0-9.]+([kMGTPE]i?)?)?$")] = ""
    required_labels: list[Annotated[str, Field(min_length=1, max_length=317)]] = Field(default_factory=list)
    images: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)


class Values(Api):
    image: Image = Field(default_factory=Image)
    image_pull_secrets: list[LocalReference] = Field(default_factory=list)
    config: OperatorSettings = Field(default_factory=OperatorSettings)
    namespaces: list[Namespace] = Field(default_factory=list)
    crds: Crds = Field(default_factory=Crds)
    user_roles: Enabled = Field(default_factory=Enabled)
    progress: Progress = Field(default_factory=Progress)
    notifications: Sink = Field(default_factory=Sink)
    priority_classes: Enabled = Field(default_factory=Enabled)
    pod_monitor: PodMonitor = Field(default_factory=PodMonitor)
    prometheus_rule: PrometheusRule = Field(default_factory=PrometheusRule)
    grafana_dashboard: GrafanaDashboard = Field(default_factory=GrafanaDashboard)
    job_namespaces: list[JobNamespace] = Field(default_factory=list)
    network_policies: NetworkPolicies = Field(default_factory=NetworkPolicies)
    admission_policies: AdmissionPolicies = Field(default_factory=AdmissionPolicies)
    gc: Gc = Field(default_factory=Gc)
    resources: Resources = Field(default_factory=_small)
    node_selector: Labels = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    affinity: dict[str, Any] = Field(default_factory=dict)
    priority_class_name: ObjectName | Literal[""] = ""
    pod_annotations: Labels = Field(default_factory=dict)
    # What Helm gives to a chart that is a part of another: values of all parts, and whether it is wanted at all.
    global_: dict[str, Any] = Field(default_factory=dict, alias="global")
    enabled: bool = True


def schema() -> str:
    """What Helm holds values against before it does anything."""
    return json.dumps(Values.model_json_schema(by_alias=True), indent=2) + "\n"


def page() -> str:
    """All settings of the operator."""
    return _INTRODUCTION + tables("config", structural_schema(OperatorSettings))
