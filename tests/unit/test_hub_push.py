"""A published folder is pushed to a hub on loopback as it would be to the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.hub import serving_hub
from tunesmith_api.spec import Hub

CODE = """
import sys
from pathlib import Path
from tunesmith_api.failures import StageFailure
from tunesmith_api.settings import HubSettings
from tunesmith_trainer.publication.hub import push
hub = HubSettings(repo="org/result", private=True, secret="hub", files=eval(sys.argv[1]))
try:
    print(push(Path("folder"), hub, Path("secrets")))
except StageFailure as error:
    print(error.failure.value, error.message, error.hint)
"""
ADAPTER = "adapter/adapter_config.json"
FILES = {"a-Q8_0.gguf": os.urandom(100_000), "README.md": b"a card", "report.json": b"{}", ADAPTER: b"{}"}
EVERYTHING = Hub(repo="org/result").files
# What deliver and the runner keep beside them.
ROWS = {"answers.jsonl": b'{"prompt": "of the owner"}\n'}
OURS = {".tunesmith/verified.jsonl": b"[]", ".tunesmith/status.json": b"{}"}


def pushed(tmp_path: Path, endpoint: str, token: str, *, files: tuple[str, ...] = EVERYTHING, xet: bool = False) -> str:
    """Push a folder in a process of its own whose hub is at `endpoint`; what it prints."""
    for name, data in {**FILES, **ROWS, **OURS}.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    (tmp_path / "secrets" / "hub").mkdir(parents=True)
    (tmp_path / "secrets" / "hub" / "token").write_text(token)
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, repr(files)],
        env={**os.environ, **environment, "HF_HUB_DISABLE_XET": "0" if xet else "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert token not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("xet", "patterns", "expected"),
    [
        pytest.param(True, EVERYTHING, set(FILES), id="everything, through Xet as users have it"),
        pytest.param(False, ("*.gguf", "adapter/", ".tunesmith/*"), {"a-Q8_0.gguf", ADAPTER}, id="some, through LFS"),
        pytest.param(False, ("*.md", "answers.jsonl"), {"README.md", *ROWS}, id="rows only where they are named"),
    ],
)
def test_the_wanted_files_arrive_in_one_commit(
    tmp_path: Path, xet: bool, patterns: tuple[str, ...], expected: set[str]
) -> None:
    """A new private repository with exactly the files of the result that match, whole."""
    with serving_hub() as hub:
        said = pushed(tmp_path, hub.url, hub.token, files=patterns, xet=xet)
        repository = hub.repositories["model", "org/result"]
        content = repository.commits[repository.branches["main"]]

    assert "/org/result/commit/" in said
    assert repository.private
    assert content == {name: (FILES | ROWS)[name] for name in expected}
    assert [path for _, path in hub.requests if "/commit/" in path] == ["/api/models/org/result/commit/main"]
    assert any("/xorbs/" in path for _, path in hub.requests) == xet


def test_a_card_that_the_hub_refuses_is_told_with_the_hubs_words(tmp_path: Path) -> None:
    """No defect of ours: another try helps nobody, and the card can be left out."""
    with serving_hub() as hub:
        hub.card_errors.append({"message": '"license" must be one of [apache-2.0, mit]'})
        said = pushed(tmp_path, hub.url, hub.token)
        commits = [path for _, path in hub.requests if "/commit/" in path]

    assert said.startswith("SpecInvalid hf://org/result: the hub refuses the files: Invalid metadata in README.md.")
    assert '"license" must be one of' in said
    assert "spec.publish.hub.files" in said
    assert commits == []


def test_a_token_that_may_not_write_is_told(tmp_path: Path) -> None:
    """AccessDenied, and the token in nothing that is said."""
    with serving_hub() as hub:
        said = pushed(tmp_path, hub.url, "hf_another-token")

    assert said.startswith("AccessDenied")


def test_a_hub_that_is_away_is_told(tmp_path: Path) -> None:
    """SourceUnavailable: the same command pushes again."""
    assert pushed(tmp_path, "http://127.0.0.1:9", "hf_any").startswith("SourceUnavailable")
