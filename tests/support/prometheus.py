"""A real Prometheus, the distribution's: it scrapes what tests name, and answers queries and alerts."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from support.server_binaries import cached_binary, run_to_end
from support.servers import free_ports
from support.waiting import wait_until

_SECONDS = 60.0


def prometheus_binary() -> Path:
    """The server."""
    return _binary("prometheus")


def promtool() -> Path:
    """Its tool that checks metrics and rules."""
    return _binary("promtool")


def _binary(name: str) -> Path:
    """Installed, or out of the package: installing it would start a service of this machine."""
    installed = shutil.which(name)

    def unpack(work: Path) -> Path:
        try:
            run_to_end(["sh", "-c", 'cd "$1" && apt-get download prometheus', "sh", str(work)])
        except RuntimeError:  # a machine that has never asked for the list of packages
            run_to_end(["apt-get", "update"])
            run_to_end(["sh", "-c", 'cd "$1" && apt-get download prometheus', "sh", str(work)])
        [package] = work.glob("prometheus_*.deb")
        run_to_end(["dpkg-deb", "--extract", str(package), str(work / "at")])
        return work / "at" / "usr" / "bin" / name

    return Path(installed) if installed else cached_binary(f"{name}-debian", "fetching Prometheus", unpack)


def checked_metrics(exposition: str) -> str:
    """What promtool finds wrong with a page of metrics; empty if nothing."""
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=exposition, capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"exit code {done.returncode}")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of this moment, each with `metric` and `value`. AssertionError where it cannot be asked."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, trust_env=False).json()
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        answer = httpx.get(f"{self.url}/api/v1/alerts", trust_env=False).json()
        return {each["labels"]["alertname"] for each in answer["data"]["alerts"] if each["state"] == "firing"}


@contextmanager
def prometheus(
    scrape: Sequence[Mapping[str, Any]], rules: Mapping[str, Any] | None = None, every: str = "1s"
) -> Iterator[Prometheus]:
    """A server with these scrape_configs and rule groups, that looks every so often."""
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        settings = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
        config: dict[str, Any] = {"global": settings, "scrape_configs": list(scrape)}
        if rules is not None:
            (work / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
            config["rule_files"] = ["rules.yaml"]
        (work / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [prometheus_binary(), f"--config.file={work / 'prometheus.yaml'}"]
        command += [f"--storage.tsdb.path={work / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
        with (work / "log").open("wb") as log:
            process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT)
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: _ready(process, server.url, work / "log"), "Prometheus to be ready", _SECONDS)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_SECONDS)


def _ready(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False
