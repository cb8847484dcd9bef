"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def given(text: str) -> str:
    """An option's value as it is, unless it is empty.

    A shell variable that is unset must not mean the default store, which gc would then sweep.
    """
    if not text:
        raise typer.BadParameter("it is empty (an unset variable?): give it a value, or leave the option out")
    return text


def given_path(text: str) -> Path:
    """The same as a path: an empty one would be the working folder."""
    return Path(given(text))


_STORE = "Where artifacts live: a folder or s3://bucket/prefix. [default: the manifest's, or a folder in the cache]"
_NAMESPACE = "The namespace within the store. [default: the manifest's, or 'default']"

Manifest = Annotated[
    Path, typer.Argument(help="The FineTuneJob to carry out, - for standard input.", metavar="JOB.YAML")
]
StoreUri = Annotated[str | None, typer.Option("--store", help=_STORE, parser=given, metavar="<text>")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help=_NAMESPACE, parser=given, metavar="<text>")]
