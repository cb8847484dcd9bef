"""What the command line says of itself."""

from importlib.metadata import version

from typer.testing import CliRunner

from tunesmith.cli.app import app


def test_the_version_is_told() -> None:
    """Without a command, and as one line."""
    ran = CliRunner().invoke(app, ["--version"])

    assert (ran.exit_code, ran.stdout) == (0, f"tunesmith {version('tunesmith')}\n")
