"""How many jobs stand where: by stage and phase, what waits for what, and what has been silent for longest."""

from datetime import timedelta
from typing import Any

import pytest

from support.bodies import a_body
from support.small_cluster import NOON
from tunesmith_api.names import CONTAINER
from tunesmith_api.progress import ProgressReport
from tunesmith_operator.cache import Cache
from tunesmith_operator.census import census
from tunesmith_operator.world import Heard

BEGAN = {"running": {"startedAt": "2026-11-27T12:00:00Z"}}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}


def with_pod(pod: dict[str, Any] | None, stage: str = "train", **spec: Any) -> Cache:
    """A stage's Job, and its pod where it has one."""
    cache = Cache()
    cache.see_job(a_body("bot-x-0", 2, stage, owner="bot", spec=spec))
    if pod is not None:
        cache.see_pod(a_body("pod", 3, stage, owner="bot-x-0", status=pod))
    return cache


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": CONTAINER, "state": state}]}


@pytest.mark.parametrize(
    ("status", "place"),
    [
        ({}, ("", "Pending")),
        ({"phase": "Pending", "stages": [{"name": "prepare", "state": "Waiting"}]}, ("prepare", "Pending")),
        (
            {"phase": "Running", "stages": [{"name": "train", "state": "Done"}, {"name": "convert"}]},
            ("convert", "Running"),
        ),
        (
            {
                "phase": "Running",
                "stages": [
                    {"name": "imatrix", "state": "Waiting"},
                    {"name": "quantize-Q8_0", "state": "Running"},
                ],
            },
            ("quantize", "Running"),
        ),
        (
            {"phase": "Failed", "finished": "2026-11-27T12:00:00Z", "stages": [{"name": "train", "state": "Failed"}]},
            ("", "Failed"),
        ),
    ],
)
def test_a_job_is_counted_where_it_stands(status: dict[str, Any], place: tuple[str, str]) -> None:
    """At the stage that works, else at the first that waits; a finished one at none."""
    cache = Cache()
    cache.see_object(a_body("bot", 1, spec={}, status=status))

    assert census(cache, NOON, NOON).jobs == {place: 1}


@pytest.mark.parametrize(
    ("cache", "reason"),
    [
        (with_pod(None), "NoPod"),
        (with_pod(None, suspend=True), "Queued"),
        (with_pod({}), "Starting"),
        (with_pod({"conditions": [UNSCHEDULABLE]}), "Unschedulable"),
        (with_pod(container(waiting={"reason": "ContainerCreating"})), "Starting"),
        (with_pod(container(waiting={"reason": "ImagePullBackOff"})), "ImagePullBackOff"),
        (with_pod(container(terminated={"startedAt": "2026-11-27T12:00:00Z", "exitCode": 1})), "NoPod"),
    ],
)
def test_what_waits_is_counted_by_what_it_waits_for(cache: Cache, reason: str) -> None:
    """In Kubernetes' own words where it has one."""
    counted = census(cache, NOON, NOON)

    assert counted.waiting == {("train", reason): 1}
    assert counted.longest.keys() == counted.waiting.keys()
    assert counted.silent == {}


def test_what_works_is_silent_since_it_began_or_since_it_was_heard() -> None:
    """The longest of each stage."""
    cache = with_pod(container(**BEGAN), "quantize-Q8_0")
    later = NOON + timedelta(seconds=50)

    assert census(cache, later, NOON).waiting == {}
    assert census(cache, later, NOON).silent == {"quantize": 50}
    cache.see_report(("team", "pod"), "pod", Heard(ProgressReport("pod", 5, None, {}), NOON + timedelta(seconds=40)))
    assert census(cache, later, NOON).silent == {"quantize": 10}


def test_a_pod_that_is_taken_away_is_counted_once() -> None:
    """When its condition comes, by Kubernetes' reason."""
    cache = with_pod(container(**BEGAN))
    taken = {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]}
    for version in (4, 5):
        cache.see_pod(a_body("pod", version, owner="bot-x-0", status=container(**BEGAN) | taken))

    assert cache.disruptions == {"EvictionByEvictionAPI": 1}


def test_a_wait_is_as_long_as_its_pod_is_old() -> None:
    """Not its Job, which may have run before; and what was said before the operator listened nobody knows."""
    cache = with_pod({"conditions": [UNSCHEDULABLE]})
    assert census(cache, NOON + timedelta(hours=1), NOON).longest == {("train", "Unschedulable"): 3600}
    working = with_pod(container(**BEGAN))
    assert census(working, NOON + timedelta(hours=1), NOON + timedelta(minutes=59)).silent == {"train": 60}
