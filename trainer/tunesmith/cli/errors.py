"""Failures as a person reads them, and the command line's exit code for each."""

from rich.console import Console
from rich.text import Text

from tunesmith.cli.terminal import visible
from tunesmith.cluster.problem import ClusterProblem
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import Failure

FAILED, WRONG, INTERRUPTED = 1, 2, 130


def exit_code(error: StageFailure | Failure) -> int:
    """1 the job failed or a gate did, 2 the manifest or the call is wrong, 130 interrupted."""
    if error.failure is FailureClass.SPEC_INVALID:
        return WRONG
    return INTERRUPTED if error.failure is FailureClass.INTERRUPTED else FAILED


def tell(error: StageFailure | Failure, console: Console) -> None:
    """Say what is wrong, where, and what would help."""
    stage = getattr(error, "stage", None)
    where = f" in {stage}" if stage else ""
    console.print(Text(f"{error.failure.value}{where}: ", style="bold red") + Text(error.message), soft_wrap=True)
    if error.hint:
        console.print(Text(error.hint), soft_wrap=True)


def tell_problem(problem: ClusterProblem, console: Console) -> None:
    """The same for what is no failure of a job."""
    console.print(Text("Error: ", style="bold red") + Text(visible(problem.message)), soft_wrap=True)
    if problem.hint:
        console.print(Text(visible(problem.hint)), soft_wrap=True)
