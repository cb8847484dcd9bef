"""Arguments and options that the cluster commands share, as kubectl calls them."""

import re
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import given, given_path
from tunesmith_api.placement import DNS_LABEL


def label(text: str) -> str:
    """A name as jobs and namespaces have it: anything else would be another address of the API server."""
    if not re.fullmatch(DNS_LABEL, given(text)):
        raise typer.BadParameter(f"{text!r} is no name that a job or a namespace can have: small letters, digits and -")
    return text


Name = Annotated[str, typer.Argument(help="The job: the name of its FineTuneJob.", metavar="NAME", parser=label)]
InNamespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="The job's namespace. [default: the manifest's (submit), the context's, or 'default']",
        parser=label,
        metavar="<text>",
    ),
]
Context = Annotated[
    str | None,
    typer.Option(help="The context of the kubeconfig. [default: its current one]", parser=given, metavar="<text>"),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="The kubeconfig. [default: KUBECONFIG, or ~/.kube/config]", parser=given_path, metavar="<path>"),
]
StoreEndpoint = Annotated[
    str | None,
    typer.Option(
        "--store-endpoint",
        help="How the store's S3 service is reached from here, if not as pods reach it.",
        parser=given,
        metavar="<url>",
    ),
]
StoreOfJob = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The store, for a job that is no more in the cluster. [default: what the job's status says]",
        parser=given,
        metavar="<s3://...>",
    ),
]
