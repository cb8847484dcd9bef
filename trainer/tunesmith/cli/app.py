"""The commands together, and what every error becomes: a sentence and an exit code (0, 1, 2 or 130)."""

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from tunesmith.cli import chat, fetch, inspect, logs, plan, run, status, steering, submit, sweep, validate
from tunesmith.cli.errors import exit_code, tell, tell_problem
from tunesmith.cli.terminal import terminal
from tunesmith.cluster.problem import ClusterProblem
from tunesmith_api.failures import StageFailure

app = typer.Typer(
    name="tunesmith",
    help="From a base model and a dataset to small, measured, ready-to-ship GGUF files.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
# Those that ask a cluster stand apart in the help.
_IN_A_CLUSTER: dict[str, Callable[..., None]] = {
    "submit": submit.submit,
    "status": status.status,
    "logs": logs.logs,
    "fetch": fetch.fetch,
    "cancel": steering.cancel,
    "retry": steering.retry,
}
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "plan": plan.plan,
    "validate": validate.validate,
    "doctor": inspect.doctor,
    "show": inspect.show,
    "chat": chat.chat,
    "compare": inspect.compare,
    "gc": sweep.gc,
}
for name, command in _COMMANDS.items():
    app.command(name)(command)
for name, command in _IN_A_CLUSTER.items():
    app.command(name, rich_help_panel="In a cluster (kubectl can do the same)")(command)


def _tell_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"tunesmith {version('tunesmith')}\n")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """What goes before a command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of ``tunesmith``; `arguments` are those of the call unless others are given."""
    try:
        app(arguments)
    except StageFailure as error:
        tell(error, terminal(stderr=True))
        sys.exit(exit_code(error))
    except ClusterProblem as problem:
        tell_problem(problem, terminal(stderr=True))
        sys.exit(problem.code)
