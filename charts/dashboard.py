"""The Grafana dashboard.

Each panel is a line here: its title, its unit, and its queries with the legends of their series.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Grafana's grid: 24 columns, three panels a row.
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_FAILED = 'tunesmith_job_completions_total{result="Failed"}'
_ONE = '{finetunejob="$finetunejob"}'


@dataclass(frozen=True)
class Panel:
    """A time series panel, or with `now` the newest values; queries by legend."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    now: bool = False


def _quantile(share: float, metric: str, selector: str) -> str:
    rate = f"sum by (le, stage) (rate({metric}_bucket{selector}[$__rate_interval]))"
    return f"histogram_quantile({share}, {rate})"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Jobs": (
        Panel("Jobs now", {"{{condition}}": "sum by (condition) (tunesmith_jobs)"}, now=True),
        Panel("Unfinished jobs by stage", {"{{stage}}": 'sum by (stage) (tunesmith_jobs{stage!=""})'}),
        Panel(
            "Ended within an hour",
            {"{{result}}": "round(sum by (result) (increase(tunesmith_job_completions_total[1h])))"},
        ),
        Panel(
            "Failures by class",
            {"{{reason}}": f"round(sum by (reason) (increase({_FAILED}[1h]))) > 0"},
        ),
        Panel(
            "Since the last success",
            {"seconds": "time() - (tunesmith_last_success_timestamp_seconds > 0)"},
            "s",
            now=True,
        ),
        Panel("Notifications", {"{{result}}": "increase(tunesmith_notifications_total[1h])"}),
    ),
    "Stages": (
        Panel(
            "Seconds of a stage, 95 of 100 under",
            {"{{stage}}": _quantile(0.95, "tunesmith_stage_duration_seconds", '{result="Done"}')},
            "s",
        ),
        Panel(
            "Seconds until its pod runs, 95 of 100 under",
            {"{{stage}}": _quantile(0.95, "tunesmith_stage_wait_seconds", "")},
            "s",
        ),
        Panel("Waiting", {"{{stage}}: {{reason}}": "sum by (stage, reason) (tunesmith_stages_waiting)"}),
        Panel(
            "Begun anew within an hour",
            {"{{stage}}: {{reason}}": "round(sum by (stage, reason) (increase(tunesmith_stage_retries_total[1h])))"},
        ),
        Panel("Longest silence", {"{{stage}}": "max by (stage) (tunesmith_stage_silent_seconds)"}, "s"),
        Panel("Pods taken away", {"{{reason}}": "sum by (reason) (increase(tunesmith_disruptions_total[1h]))"}),
    ),
    "Use": (
        Panel(
            "Trainings that run", {"trainings": 'sum(tunesmith_jobs{stage="train",condition="Running"}) or vector(0)'}
        ),
        Panel("GPU hours, counted when pods end", {"hours": "increase(tunesmith_gpu_seconds_total[1d]) / 3600"}),
        Panel(
            "Bytes of files made",
            {"{{stage}}": "sum by (stage) (increase(tunesmith_artifact_bytes_total[1d]))"},
            "bytes",
        ),
    ),
    "One training": (
        Panel(
            "Loss",
            {"training": f"tunesmith_training_loss{_ONE}", "held-out rows": f"tunesmith_training_eval_loss{_ONE}"},
        ),
        Panel("Learning rate", {"rate": f"tunesmith_training_learning_rate{_ONE}"}, "sci"),
        Panel("Tokens per second", {"tokens": f"tunesmith_training_tokens_per_second{_ONE}"}),
        Panel("Memory", {"at most": f"tunesmith_training_memory_bytes{_ONE}"}, "bytes"),
        Panel(
            "Done",
            {"share": f"tunesmith_training_step{_ONE} / tunesmith_training_steps{_ONE}"},
            "percentunit",
            now=True,
        ),
        Panel("Gradient", {"norm": f"tunesmith_training_gradient_norm{_ONE}"}),
    ),
    "Files of one job (config.fileMetrics)": (
        Panel("Size", {"{{type}}": f"tunesmith_file_bytes{_ONE}"}, "bytes", now=True),
        Panel("Perplexity above the bf16 file's", {"{{type}}": f"tunesmith_file_perplexity_increase{_ONE}"}, now=True),
        Panel("Score on held-out prompts", {"{{type}}": f"tunesmith_file_score{_ONE}"}, "percentunit", now=True),
    ),
    "Operator": (
        Panel("Watches behind", {"{{resource}}": "max by (resource) (tunesmith_watch_behind_seconds)"}, "s"),
        Panel(
            "Passes a second", {"{{result}}": "sum by (result) (rate(tunesmith_reconciles_total[$__rate_interval]))"}
        ),
        Panel(
            "Requests to the API server a second",
            {"{{verb}} {{code}}": "sum by (verb, code) (rate(tunesmith_api_requests_total[$__rate_interval]))"},
        ),
        Panel("Jobs that wait for a pass", {"jobs": "tunesmith_reconciles_waiting"}),
        Panel(
            "Memory",
            {"resident": "process_resident_memory_bytes and on (instance) tunesmith_build_info"},
            "bytes",
        ),
        Panel("Version", {"{{version}}": "tunesmith_build_info"}, now=True),
    ),
}


def dashboard() -> dict[str, Any]:
    """As Grafana imports it (schema 39, Grafana 10 and newer)."""
    return {
        "uid": "tunesmith",
        "title": "Tunesmith",
        "tags": ["tunesmith"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(_panels()),
    }


def text() -> str:
    """The file to import."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _variables() -> list[dict[str, Any]]:
    jobs = 'label_values({__name__=~"tunesmith_training_loss|tunesmith_file_bytes"}, finetunejob)'
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "finetunejob", "label": "Job", "type": "query", "datasource": _SOURCE, "query": jobs, "refresh": 2},
    ]


def _panels() -> Iterator[dict[str, Any]]:
    at = 0
    for title, panels in ROWS.items():
        yield {"type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": at, "w": _COLUMNS, "h": 1}}
        at += 1
        yield from _row(panels, at)
        at += _HEIGHT * -(-len(panels) * _WIDTH // _COLUMNS)


def _row(panels: Sequence[Panel], at: int) -> Iterator[dict[str, Any]]:
    for index, panel in enumerate(panels):
        column, row = index * _WIDTH % _COLUMNS, index * _WIDTH // _COLUMNS
        targets = [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            | ({"instant": True} if panel.now else {})
            for number, (legend, query) in enumerate(panel.queries.items())
        ]
        yield {
            "type": "bargauge" if panel.now else "timeseries",
            "title": panel.title,
            "datasource": _SOURCE,
            "gridPos": {"x": column, "y": at + row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": None}, "overrides": []},
            "targets": targets,
        }
