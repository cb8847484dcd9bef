"""What the status says of the store: for whoever reads the object and cannot see the operator's settings."""

from typing import Any

import pytest

from support.builders import a_spec
from support.small_cluster import ROWS, Cluster, one_pass, settle
from tunesmith_api.status import StoreStatus
from tunesmith_operator.building import Builder
from tunesmith_operator.decide import CreateJob
from tunesmith_operator.fold import Rules
from tunesmith_operator.names import REQUEST_ANNOTATION
from tunesmith_operator.settings import OperatorSettings

DEFAULT = {"uri": "s3://everyone", "endpoint": "http://minio:9000", "secretRef": {"name": "default-store"}}
OWN = {"uri": "s3://own/prefix", "region": "eu-1", "caSecretRef": {"name": "authority"}}


def rules(store: dict[str, Any]) -> Rules:
    settings = OperatorSettings.model_validate({"store": store})
    return Rules(settings, Builder(settings).job)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        pytest.param(
            {},
            StoreStatus(uri="s3://everyone", endpoint="http://minio:9000", secret="default-store"),
            id="the operator's",
        ),
        pytest.param(
            {"store": OWN}, StoreStatus(uri="s3://own/prefix", region="eu-1", ca_secret="authority"), id="its own"
        ),
    ],
)
def test_it_is_said_from_the_first_pass(spec: dict[str, Any], told: StoreStatus) -> None:
    """A prepare that fails has a log there as well."""
    cluster = Cluster(spec=a_spec(datasets=ROWS, **spec))
    one_pass(cluster, rules=rules(DEFAULT))

    assert cluster.status.store == told


def test_a_finished_job_is_where_it_was_made() -> None:
    """Whatever the operator's default has become since."""
    cluster = Cluster(spec=a_spec(datasets=ROWS))
    made = settle(cluster).store
    one_pass(cluster, rules=rules(DEFAULT))

    assert made == cluster.status.store == StoreStatus(uri="s3://bucket")


@pytest.mark.parametrize("settings", [OperatorSettings(), OperatorSettings.model_validate({"store": DEFAULT})])
def test_another_default_trains_nothing_again(settings: OperatorSettings) -> None:
    """Nor does none: what was made is where the status says, and a quantization that is added is made of it."""
    cluster = Cluster(spec=a_spec(datasets=ROWS, quantizations=["Q8_0"]))
    settle(cluster)
    before = list(cluster.made)
    cluster.edit(quantizations=["Q8_0", "Q6_K"])
    rules = Rules(settings, Builder(settings).job)
    made = one_pass(cluster, rules=rules).actions

    assert [action.stage for action in made if isinstance(action, CreateJob)] == ["quantize-Q6_K"]
    assert '"uri":"s3://bucket"' in made[0].job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    assert cluster.made == [*before, "quantize-Q6_K"]
