"""Arguments and options that the cluster commands share, as kubectl calls them."""

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import given, given_path

Name = Annotated[str, typer.Argument(help="The job: the name of its FineTuneJob.", metavar="NAME", parser=given)]
InNamespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="The job's namespace. [default: the manifest's (submit), the context's, or 'default']",
        parser=given,
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
