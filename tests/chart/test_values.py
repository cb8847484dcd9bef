"""The chart's values: their defaults, and what Helm refuses before it does anything."""

import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

import pytest
import yaml

from support.chart_readme import FILE, written
from support.control_plane import ROOT
from support.install_yaml import CHART, templated


def values_module() -> ModuleType:
    """charts/values.py, which is a script and no package."""
    found = importlib.util.spec_from_file_location("chart_values", ROOT / "charts" / "values.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["chart_values"] = module
    found.loader.exec_module(module)
    return module


def refused(setting: str) -> str:
    """Helm's words against a value; a failure if it takes it."""
    with pytest.raises(RuntimeError) as raised:
        templated("--set-json", setting)
    return str(raised.value)


def test_the_defaults_are_those_of_the_models() -> None:
    """values.yaml has every value, so that whoever reads it has seen all."""
    module = values_module()
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert module.Values.model_validate(values) == module.Values()
    assert values.keys() == {
        field.alias for name, field in module.Values.model_fields.items() if name not in ("global_", "enabled")
    }


def test_the_readme_is_what_helm_docs_writes() -> None:
    """`python -m support.chart_readme` writes it; every value has a description."""
    text = written()

    assert FILE.read_text() == text
    assert "|  |" not in text


BAD = [
    ("replicas=2", "replicas"),
    ('nameOverride="x"', "nameOverride"),
    ('image="ghcr.io/x:1"', "image"),
    ('image.name="x"', "image"),
    ('image.repository=""', "repository"),
    ('image.digest="latest"', "digest"),
    ('image.pullPolicy="Sometimes"', "pullPolicy"),
    ('imagePullSecrets=["regcred"]', "imagePullSecrets"),
    ('imagePullSecrets=[{"secretName": "regcred"}]', "imagePullSecrets"),
    ('namespaces="team-a"', "namespaces"),
    ('namespaces=["Team_A"]', "namespaces"),
    ('config.stores={"uri": "s3://a"}', "stores"),
    ('config.store={"endpoint": "http://minio"}', "store"),
    ('config.store={"uri": "minio"}', "store"),
    ('config.images={"trainers": "x"}', "images"),
    ('config.images={"gguf": ""}', "gguf"),
    ("config.metricsPort=0", "metricsPort"),
    ('config.metricsPort="http"', "metricsPort"),
    ("config.quantizationsAtOnce=0", "quantizationsAtOnce"),
    ("config.keepJobsSeconds=-1", "keepJobsSeconds"),
    ('config.storePatienceSeconds="1h"', "storePatienceSeconds"),
    ('config.network={"proxy": "http://proxy"}', "network"),
    ('config.placement={"name": "train"}', "placement"),
    ('config.placement=[{"name": "training"}]', "placement"),
    ("crds.install=true", "crds"),
    ('crds.keep="yes"', "keep"),
    ("progress=true", "progress"),
    ('progress.secretName="Not_A_Name"', "secretName"),
    ("priorityClasses.above=1000", "priorityClasses"),
    ('podMonitor.interval="often"', "interval"),
    ('podMonitor.labels=["release"]', "labels"),
    ("prometheusRule.rules=[]", "prometheusRule"),
    ('networkPolicies.apiServerPorts=["https"]', "apiServerPorts"),
    ("networkPolicies.apiServerPorts=[]", "apiServerPorts"),
    ('networkPolicies.outside.except=["everything"]', "except"),
    ('jobNamespaces=["team-a"]', "jobNamespaces"),
    ('admissionPolicies.stores=["minio"]', "stores"),
    ("admissionPolicies.maxGpus=-1", "maxGpus"),
    ('admissionPolicies.maxGpuMemory="a lot"', "maxGpuMemory"),
    ('resources.limit={"memory": "1Gi"}', "resources"),
    ('tolerations={"key": "a"}', "tolerations"),
    ('podAnnotations={"a": 1}', "podAnnotations"),
]


@pytest.mark.parametrize(("setting", "where"), BAD, ids=[setting for setting, _ in BAD])
def test_a_bad_value_is_refused_by_its_name(setting: str, where: str) -> None:
    """And nothing is rendered."""
    assert where in refused(setting)


def test_a_chart_may_have_this_one_as_a_part() -> None:
    """Helm hands it the values of all parts, and the one that its condition reads."""
    assert "Deployment" in templated("--set-json", 'global={"team": "a"}', "--set-json", "enabled=true")


@pytest.mark.parametrize("setting", ["config.store=null", 'config.store={"uri": "s3://models", "endpoint": null}'])
def test_what_is_null_is_as_if_it_were_absent(setting: str) -> None:
    """An overlay takes away what another has set."""
    everything = ["networkPolicies.enabled=true", "admissionPolicies.enabled=true", 'jobNamespaces=[{"name": "2024"}]']
    words = [word for value in (*everything, setting) for word in ("--set-json", value)]
    text = templated(*words, release="123", namespace="456")

    named = [each["metadata"] for each in yaml.safe_load_all(text) if each]
    assert {type(meta.get("namespace", "")) for meta in named} == {str}


def test_the_schema_refuses_what_the_operator_would_refuse_later() -> None:
    """Everywhere in `config` as well: no object takes what is not named in it, but for maps of Kubernetes' own."""
    schema: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    own = [each for each in [schema, *schema["$defs"].values()] if "properties" in each]

    assert [each["title"] for each in own if each.get("additionalProperties") is not False] == []
