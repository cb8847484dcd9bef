"""A finished job costs nothing: not a pass, when an operator starts, nor a write."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from support.small_cluster import NOON
from tunesmith_operator.excerpts import Excerpt, excerpt_of
from tunesmith_operator.settled import settled

META = {"name": "bot", "namespace": "team", "uid": "uid", "resourceVersion": "7", "generation": 2}
DONE = excerpt_of({"metadata": META, "spec": {}, "status": {"phase": "Complete", "observedGeneration": 2}})


def with_status(**changes: object) -> Excerpt:
    return replace(DONE, status=json.dumps(json.loads(DONE.status) | changes).encode())


@pytest.mark.parametrize(
    ("seen", "so"),
    [
        pytest.param(DONE, True, id="complete"),
        pytest.param(replace(with_status(retried="1"), retry="1"), True, id="its retry was heeded"),
        pytest.param(replace(DONE, retry="1"), False, id="a retry is asked for"),
        pytest.param(replace(DONE, generation=3), False, id="the spec has changed"),
        pytest.param(replace(DONE, spec=b'{"ttlSecondsAfterFinished": 0}'), False, id="it has a time to live"),
        pytest.param(with_status(phase="Failed"), False, id="failed: another image may be there"),
        pytest.param(with_status(phase="Running"), False, id="under way"),
        pytest.param(replace(DONE, status=b"{}"), False, id="new"),
    ],
)
def test_what_is_complete_and_seen_needs_no_pass(seen: Excerpt, so: bool) -> None:
    """Everything else has one."""
    assert settled(seen) is so


@pytest.mark.parametrize(("ago", "so"), [(timedelta(hours=1), False), (timedelta(hours=3), True)])
def test_an_end_that_may_have_to_be_told_needs_a_pass(ago: timedelta, so: bool) -> None:
    """Whatever was told of the job before; older ones are no news."""
    finished = with_status(finished=(NOON - ago).isoformat(), notified="of a failure before")

    assert settled(finished, NOON - timedelta(hours=2)) is so
