"""A published folder is pushed to a hub on loopback as it would be to the real one."""

import os
import subprocess
import sys
from pathlib import Path

from support.hub import serving_hub

CODE = """
import sys
from pathlib import Path
from tunesmith_api.failures import StageFailure
from tunesmith_api.settings import HubSettings
from tunesmith_trainer.publication.hub import push
hub = HubSettings(repo="org/result", private=True, files=("*.gguf", "README.md"), secret="hub")
try:
    print(push(Path("folder"), hub, Path("secrets")))
except StageFailure as error:
    print(error.failure.value, error.message)
"""


def pushed(tmp_path: Path, endpoint: str, token: str) -> str:
    """Push a folder in a process of its own whose hub is at `endpoint`; what it prints."""
    (tmp_path / "folder").mkdir()
    for name, data in {"a-Q8_0.gguf": b"GGUF" * 1000, "README.md": b"a card", "report.json": b"{}"}.items():
        (tmp_path / "folder" / name).write_bytes(data)
    (tmp_path / "secrets" / "hub").mkdir(parents=True)
    (tmp_path / "secrets" / "hub" / "token").write_text(token)
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **environment, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert token not in done.stdout + done.stderr
    return done.stdout


def test_the_wanted_files_arrive_in_one_commit(tmp_path: Path) -> None:
    """A new private repository with exactly the files that match, whole."""
    with serving_hub() as hub:
        said = pushed(tmp_path, hub.url, hub.token)
        repository = hub.repositories["model", "org/result"]
        content = repository.commits[repository.branches["main"]]

    assert "/org/result/commit/" in said
    assert repository.private
    assert content == {"a-Q8_0.gguf": b"GGUF" * 1000, "README.md": b"a card"}


def test_a_token_that_may_not_write_is_told(tmp_path: Path) -> None:
    """AccessDenied, and the token in nothing that is said."""
    with serving_hub() as hub:
        said = pushed(tmp_path, hub.url, "hf_another-token")

    assert said.startswith("AccessDenied")


def test_a_hub_that_is_away_is_told(tmp_path: Path) -> None:
    """SourceUnavailable: the same command pushes again."""
    assert pushed(tmp_path, "http://127.0.0.1:9", "hf_any").startswith("SourceUnavailable")
