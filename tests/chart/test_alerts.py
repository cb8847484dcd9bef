"""The alerts of the chart: each fires for what it is for, and clears; by Prometheus' own tool."""

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from support.control_plane import ROOT
from support.install_yaml import CHART
from support.prometheus import promtool
from support.server_binaries import run_to_end

RULES, TRIALS = CHART / "files" / "alerts.yaml", ROOT / "tests" / "chart" / "alerts.yaml"
PAGE = (ROOT / "docs" / "monitoring.md").read_text()


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_fires_and_clears_in_trials(tmp_path: Path) -> None:
    """`promtool test rules`; none is left out, and each is tried for when it must be silent too."""
    shutil.copy(RULES, tmp_path / "alerts.yaml")
    shutil.copy(TRIALS, tmp_path / "trials.yaml")
    run_to_end([str(promtool()), "check", "rules", str(tmp_path / "alerts.yaml")])
    run_to_end([str(promtool()), "test", "rules", str(tmp_path / "trials.yaml")])

    tried = [trial for test in yaml.safe_load(TRIALS.read_text())["tests"] for trial in test["alert_rule_test"]]
    for fires in (True, False):
        names = {trial["alertname"] for trial in tried if bool(trial.get("exp_alerts")) is fires}
        assert names == {alert["alert"] for alert in alerts()}


def test_every_alert_is_on_the_page_and_asks_for_metrics_that_are() -> None:
    """What it means and what to do, under its own name."""
    said = re.findall(r"^### (Tunesmith\w+)$", PAGE, re.MULTILINE)
    asked = {name for alert in alerts() for name in re.findall(r"tunesmith_\w+", alert["expr"])}

    assert said == [alert["alert"] for alert in alerts()]
    assert asked <= set(re.findall(r"^\| `(tunesmith_[a-z_]+)` \|", PAGE, re.MULTILINE))
