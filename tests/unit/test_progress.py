"""How far a stage is, from where it is told to whoever listens (contract 11)."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from support.waiting import wait_until
from support.web import Web, serving_web
from tunesmith.local.listener import ProgressListener
from tunesmith_api.progress import ProgressReport, parse_report
from tunesmith_api.stages import ProgressEndpoint
from tunesmith_trainer.report_progress import INTERVAL_SECONDS, Mark, ProgressPoster, seconds_left, status_payload

LOSS = {"name": "loss", "value": "16.99"}
STATUS = {"lastUpdatedTime": "2026-08-01T00:00:00Z", "progressPercentage": 30, "estimatedRemainingSeconds": 18}
# As Transformers' own KubeflowCallback posts it (recorded).
PAYLOAD = {"trainerStatus": STATUS | {"metrics": [LOSS]}}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A server of somebody else's, as the operator is one: HTTPS with a certificate that no system trusts."""
    with serving_web(tmp_path / "web") as web:
        web.put("/progress")
        yield web


@pytest.fixture
def heard() -> list[ProgressReport]:
    """What the listener has taken in."""
    return []


@pytest.fixture
def listener(heard: list[ProgressReport]) -> Iterator[ProgressListener]:
    """The local runner's, on loopback."""
    listener = ProgressListener(heard.append)
    listener.start()
    yield listener
    listener.close()


def endpoint_of(web: Web, folder: Path) -> ProgressEndpoint:
    """The server with its certificate's authority and a token."""
    (folder / "token").write_text("t\n")
    authority = web.authority.read_text()
    return ProgressEndpoint(url=f"{web.url}/progress", ca_certificate=authority, token_file=str(folder / "token"))


def posted(web: Web) -> list[dict[str, Any]]:
    return [json.loads(body)["trainerStatus"] for _, body in web.posted]


def test_the_payload_is_kubeflow_s() -> None:
    """Its names, and strings for values; no guess at the time left before anything is known."""
    payload = status_payload(0.305, {"loss": 16.99}, 18)["trainerStatus"]

    assert isinstance(payload, dict)
    assert datetime.fromisoformat(payload["lastUpdatedTime"]).utcoffset() is not None
    assert payload == PAYLOAD["trainerStatus"] | {"lastUpdatedTime": payload["lastUpdatedTime"]}
    assert "estimatedRemainingSeconds" not in json.dumps(status_payload(0.3, {}))


def test_the_newest_is_posted_before_the_end(web: Web, tmp_path: Path) -> None:
    """Over HTTPS, with the authority's certificate and the token; what came in a pause is not lost, nor waited for."""
    poster = ProgressPoster(endpoint_of(web, tmp_path))
    poster(0.1)
    wait_until(lambda: len(web.posted) == 1, "the first report")
    poster(0.5)
    poster(1.0)
    began = monotonic()
    poster.close()

    assert monotonic() - began < INTERVAL_SECONDS / 2
    assert [status["progressPercentage"] for status in posted(web)] == [10, 100]
    assert {authorization for authorization, _ in web.posted} == {"Bearer t"}


def test_it_is_posted_past_every_proxy(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the operator's settings give a pod for what is outside: the operator is not."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    poster = ProgressPoster(endpoint_of(web, tmp_path))
    poster(1.0)
    poster.close()

    assert [status["progressPercentage"] for status in posted(web)] == [100]


@pytest.mark.parametrize("lacks", ["ca_certificate", "token_file", "url"])
def test_a_listener_that_cannot_be_reached_costs_the_stage_nothing(web: Web, tmp_path: Path, lacks: str) -> None:
    """No authority, no token, nobody there: the next report is tried all the same."""
    wrong = {"ca_certificate": None, "token_file": str(tmp_path / "absent"), "url": "http://127.0.0.1:9"}
    poster = ProgressPoster(endpoint_of(web, tmp_path).model_copy(update={lacks: wrong[lacks]}))
    poster(0.5)
    wait_until(lambda: not poster._newest, "the report to be tried")
    poster.endpoint = endpoint_of(web, tmp_path)
    poster(1.0)
    poster.close()

    assert [status["progressPercentage"] for status in posted(web)] == [100]


@pytest.mark.parametrize(
    ("begun", "now", "left"),
    [
        pytest.param(Mark(0.0, 5.0), Mark(0.25, 15.0), 30, id="from the start"),
        pytest.param(Mark(0.5, 5.0), Mark(0.6, 25.0), 80, id="gone on in the middle"),
        pytest.param(Mark(0.5, 5.0), Mark(0.5, 9.0), None, id="nothing done yet"),
        pytest.param(Mark(0.0, 5.0), Mark(0.0001, 25.0), None, id="hardly begun"),
        pytest.param(Mark(0.5, 5.0), Mark(1.0, 9.0), 0, id="done"),
    ],
)
def test_seconds_left(begun: Mark, now: Mark, left: int | None) -> None:
    """By the pace of this process, not by what an earlier one did."""
    assert seconds_left(begun, now) == left


def test_time_left_counts_from_where_training_begins(web: Web, tmp_path: Path) -> None:
    """Resumed at half after 40 s of loading: a tenth in 20 s leaves 80 s, where 60 s for six tenths would say 40."""
    seconds = iter([0.0, 40.0, 60.0])
    poster = ProgressPoster(endpoint_of(web, tmp_path), clock=lambda: next(seconds))
    poster(0.0, {"phase": "loading"})
    wait_until(lambda: len(web.posted) == 1, "the first report")
    poster(0.5, {"phase": "training"})
    poster(0.6, {"loss": 1.0})
    poster.close()

    assert [status.get("estimatedRemainingSeconds") for status in posted(web)] == [None, 80]


def answer_to(endpoint: ProgressEndpoint, token: str, body: bytes) -> int:
    return httpx.post(endpoint.url, content=body, headers={"Authorization": f"Bearer {token}"}).status_code


def test_the_listener_hears_those_with_a_token(
    listener: ProgressListener, heard: list[ProgressReport], tmp_path: Path
) -> None:
    """Each stage by its own; who has none is refused, and what is no report is too."""
    endpoint = listener.endpoint("train", tmp_path / "token")
    token = (tmp_path / "token").read_text()
    body = json.dumps(PAYLOAD).encode()

    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert [answer_to(endpoint, "guessed", body), answer_to(endpoint, token, b"{}")] == [401, 400]
    assert heard == []
    assert answer_to(endpoint, token, body) == 200
    assert heard == [ProgressReport("train", 30, 18.0, {"loss": "16.99"})]


def test_the_listener_hears_the_poster(listener: ProgressListener, heard: list[ProgressReport], tmp_path: Path) -> None:
    """Both ends of the protocol, as in a local run."""
    poster = ProgressPoster(listener.endpoint("prepare", tmp_path / "token"))
    poster(0.42, {"rows": 7})
    poster.close()

    assert heard == [ProgressReport("prepare", 42, None, {"rows": "7"})]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="no object"),
        pytest.param('{"trainerStatus": "well"}', id="no status"),
        pytest.param('{"trainerStatus": {}}', id="no percentage"),
        pytest.param('{"trainerStatus": {"progressPercentage": 1e999}}', id="no number of percent"),
        pytest.param('{"trainerStatus": {"progressPercentage": 1, "metrics": ["loss"]}}', id="no metrics"),
        pytest.param('{"trainerStatus": {"progressPercentage": 1, "estimatedRemainingSeconds": "x"}}', id="no time"),
    ],
)
def test_what_is_no_report(body: str) -> None:
    """Whatever is posted, the listener goes on."""
    assert parse_report("train", body.encode()) is None


def test_a_report_stays_within_its_bounds() -> None:
    """A bar is never longer than its row."""
    report = parse_report("train", b'{"trainerStatus": {"progressPercentage": 250}}')

    assert report == ProgressReport("train", 100, None, {})
