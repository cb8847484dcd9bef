"""A stage's result reaches its file where that can be replaced, and where it is a mount that cannot."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WRITE = """
import sys
from pathlib import Path
from tunesmith_api.stages import Stage, StageResult
from tunesmith_trainer.__main__ import _write
_write(Path(sys.argv[1]), StageResult(stage=Stage.TRAIN))
"""
# As the kubelet does it: a file of another place, in a folder that is read-only.
MOUNTED = 'mount --bind "$2" "$1/message" && mount -o rbind,ro "$1" "$1.ro" && exec "$3" -c "$4" "$1.ro/message"'


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing is left beside it."""
    subprocess.run([sys.executable, "-c", WRITE, tmp_path / "result.json"], check=True)

    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert '"stage":"train"' in (tmp_path / "result.json").read_text()


def test_a_termination_message_is_written_in_place(tmp_path: Path) -> None:
    """It is a mount in a read-only folder; what was there before, and longer, is gone."""
    enter = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces")
    dev, message = tmp_path / "dev", tmp_path / "message"
    dev.mkdir()
    (tmp_path / "dev.ro").mkdir()
    (dev / "message").touch()
    message.write_text("x" * 9000)
    done = subprocess.run(
        [*enter, "sh", "-c", MOUNTED, "sh", dev, message, sys.executable, WRITE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert message.read_text().startswith("{")
    assert '"stage":"train"' in message.read_text()
