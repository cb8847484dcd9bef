"""What the API server says against a request, as a person reads it: the sentence, what helps, the exit code."""

import json
from pathlib import Path

import pytest
import yaml

from support.cli import called
from support.servers import free_ports
from tunesmith.cluster.answers import problem_of


def said_by(status: int, reason: str, message: str, **details: str) -> bytes:
    """A metav1.Status."""
    body = {"kind": "Status", "code": status, "reason": reason, "message": message, "details": details}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("status", "body", "code", "said", "helps"),
    [
        pytest.param(401, said_by(401, "Unauthorized", "Unauthorized"), 1, "does not know who you", "Log in", id="401"),
        pytest.param(
            403,
            said_by(403, "Forbidden", 'finetunejobs "bot" is forbidden: User "x" cannot get'),
            1,
            'User "x" cannot get',
            "can-i",
            id="403",
        ),
        pytest.param(404, b"404 page not found\n", 1, "the cluster knows no FineTuneJob", "crds/", id="no CRD"),
        pytest.param(
            404,
            said_by(404, "NotFound", 'namespaces "nowhere" not found', name="nowhere", kind="namespaces"),
            2,
            "there is no namespace nowhere",
            "kubectl create namespace nowhere",
            id="no namespace",
        ),
        pytest.param(
            409,
            said_by(409, "Conflict", 'Apply failed with 1 conflict: conflict with "kubectl": .spec.priority'),
            2,
            ".spec.priority",
            "--force-conflicts",
            id="owned by another",
        ),
        pytest.param(
            422,
            said_by(422, "Invalid", "spec.training.seed: Invalid value"),
            2,
            "spec.training.seed",
            "Correct",
            id="422",
        ),
        pytest.param(503, b"<html>no healthy upstream</html>", 1, "it answered 503", "Try again", id="a proxy's 503"),
    ],
)
def test_every_answer_has_a_sentence(status: int, body: bytes, code: int, said: str, helps: str) -> None:
    """From a real API server: tests/cluster."""
    problem = problem_of(status, body, "https://cluster:6443")

    assert problem.code == code
    assert said in problem.message
    assert helps in problem.hint


@pytest.mark.parametrize(("status", "passing"), [(503, True), (429, True), (500, True), (403, False), (404, False)])
def test_a_watch_asks_again_only_what_may_pass(status: int, passing: bool) -> None:
    """What is forbidden is so in a minute too."""
    assert problem_of(status, b"{}", "https://cluster:6443").passing == passing


def a_kubeconfig(folder: Path, server: str, **context: str) -> Path:
    """With one context, called here."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"} | context}],
        "current-context": "here",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return folder / "kubeconfig"


def test_without_a_kubeconfig_one_is_asked_for(tmp_path: Path) -> None:
    """Named, or in the environment."""
    for how in ({"KUBECONFIG": str(tmp_path / "none")}, {"KUBECONFIG": "", "HOME": str(tmp_path)}):
        found = called("status", "bot", **how)
        assert found.code == 1
        assert "there is no kubeconfig" in found.stderr
        assert "--kubeconfig" in found.stderr


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    """And no traceback."""
    found = called("status", "bot", "--kubeconfig", a_kubeconfig(tmp_path, "https://x"), "--context", "elsewhere")

    assert (found.code, found.stdout) == (1, "")
    assert "elsewhere" in found.stderr
    assert "get-contexts" in found.stderr


def test_an_api_server_that_is_away_is_told(tmp_path: Path) -> None:
    """With its address."""
    [port] = free_ports(1)
    server = f"http://127.0.0.1:{port}"
    found = called("cancel", "bot", "--kubeconfig", a_kubeconfig(tmp_path, server))

    assert found.code == 1
    assert f"the API server {server} cannot be reached" in found.stderr
    assert "refused" in found.stderr.lower()


@pytest.mark.parametrize("name", ["", "..", "?watch=true", "bot/status", "Bot", "bot\n"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    """`cancel` deletes what is at an address."""
    [port] = free_ports(1)
    config = a_kubeconfig(tmp_path, f"http://127.0.0.1:{port}")
    for arguments in (("cancel", name), ("cancel", "bot", "--namespace", name)):
        found = called(*arguments, "--kubeconfig", config)
        assert found.code == 2
        assert "127.0.0.1" not in found.stderr
