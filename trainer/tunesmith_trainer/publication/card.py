"""The model card of a published folder: README.md out of the report. Pure."""

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import jinja2

from tunesmith import figures
from tunesmith_api.report import Report
from tunesmith_api.settings import DatasetOrigin


def model_card(report: Report, facts: Mapping[str, Any]) -> str:
    """The card's text; `facts` are base_repo, license, datasets, learning_rate, files, curve."""
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701  # Markdown
    environment.filters |= {
        "figure": figures.number,
        "with_error": figures.with_error,
        "percent": figures.share,
        "megabytes": figures.megabytes,
        "score": figures.score,
        "interval": figures.interval,
        "loss": figures.loss,
    }
    text = resources.files(__package__).joinpath("card.md.jinja").read_text(encoding="utf-8")
    published = [file for file in report.files if file.published]
    values = report.to_json_dict()
    return environment.from_string(text).render(
        report=values,
        metric=figures.metric_of(values),
        dataset_repos=_repos(facts["datasets"]),
        first=published[0].name if published else None,
        first_type=published[0].type if published else None,
        **facts,
    )


def _repos(datasets: Iterable[DatasetOrigin]) -> list[str]:
    """Those of the Hugging Face hub, each once, as its cards name them (Hub documentation, "Model Cards")."""
    named = (dataset.uri for dataset in datasets if dataset.uri is not None)
    return list(dict.fromkeys(uri.removeprefix("hf://") for uri in named if uri.startswith("hf://")))
