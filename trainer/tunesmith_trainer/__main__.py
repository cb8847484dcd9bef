"""``python -m tunesmith_trainer STAGE --request FILE --result FILE``: one stage, alone in its process (contract 1)."""

import argparse
import contextlib
import sys
from pathlib import Path

from pydantic import ValidationError

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Stage, StageRequest, StageResult, failure_of, fitting
from tunesmith_trainer.authorities import trust_own_authorities
from tunesmith_trainer.frame import execute
from tunesmith_trainer.parent import end_with_parent


def main() -> int:
    """Run one stage; the exit code is the failure class's (contract 10), 0 when its outputs are whole in the store."""
    parser = argparse.ArgumentParser(prog="tunesmith_trainer", description=main.__doc__)
    parser.add_argument("stage", choices=[stage.value for stage in Stage])
    parser.add_argument("--request", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    call = parser.parse_args()
    end_with_parent()
    stage = Stage(call.stage)
    try:
        trust_own_authorities(Path.cwd())
        request = _read(call.request, stage)
    except StageFailure as error:
        result = StageResult(stage=stage, failure=failure_of(error, stage))
        code = error.exit_code
    else:
        result, code = execute(request, Path.cwd())
    _write(call.result, result)
    return code


def _read(path: Path, stage: Stage) -> StageRequest:
    try:
        request = StageRequest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        message = f"the stage request {path.name} cannot be read or is of another version: {error}"
        raise StageFailure(FailureClass.INTERNAL, message) from error
    if request.stage is not stage:
        raise StageFailure(FailureClass.INTERNAL, f"the request is for {request.stage}, the call for {stage}")
    return request


def _write(path: Path, result: StageResult) -> None:
    text = fitting(result).model_dump_json(by_alias=True, exclude_none=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError:
        # In a pod it is a file that the kubelet has mounted, in a folder where nothing else can be written.
        with contextlib.suppress(OSError):
            partial.unlink()
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
