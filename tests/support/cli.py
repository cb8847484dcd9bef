"""Commands of the command line in this process: quick, and with everything that a process of its own would say."""

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from support.runs import Ran
from tunesmith.cli.app import main


def called(*arguments: str | Path, **environment: str) -> Ran:
    """How a command ends and what it says, on a terminal so wide that nothing is folded."""
    out, err = io.StringIO(), io.StringIO()
    surroundings = {"COLUMNS": "400"} | environment
    with patch.dict(os.environ, surroundings), redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            return Ran.of(int(ended.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("a command ends the process")
