"""The page of all failure classes, written from the table that the exit codes come from."""

from tunesmith_api.failures import FAILURES

_HEAD = """# Errors

<!-- Generated from crds/tunesmith_api/failures.py by 'make generate'; change that, not this page. -->

Whatever goes wrong is told as one of these classes, with a sentence that says what and where, and a hint. The class
stands in what the command line prints, in `DIR/.tunesmith/status.json`, and in the status of a `FineTuneJob`. A stage's
process ends with the class's exit code; *again* says whether running the same thing again can help as it is.

The command line itself ends with 0 (done, every gate passed), 1 (the job failed, or a gate did), 2 (the manifest or the
call is wrong) or 130 (interrupted; the same command goes on). A failed stage's whole output is in
`DIR/.tunesmith/logs/STAGE.log` and in the store under `logs/`.

| class | exit code of the stage | again | what to do |
|---|---|---|---|
"""


def errors_page() -> str:
    """Markdown: one line per class."""
    rows = [
        f"| `{name.value}` | {rule.exit_code} | {'yes' if rule.retry_helps else 'no'} | {rule.hint} |"
        for name, rule in FAILURES.items()
    ]
    return _HEAD + "\n".join(rows) + "\n"
