"""The operator goes on by itself when the API server was away, and when a watch has died without a word."""

from collections import Counter
from pathlib import Path

import pytest

from support.api_proxy import proxied
from support.builders import a_spec
from support.control_plane import ControlPlane
from support.kubelet import Kubelet
from support.operator_process import applied, operator, phase_of
from support.small_cluster import ROWS
from support.waiting import wait_until
from tunesmith_operator.watching import JOBS, OBJECTS, PODS

# Minutes together.
pytestmark = pytest.mark.slow

# A watch is taken for dead after 90 seconds without a word (watching.py).
SECONDS = 180.0
WATCHED = (OBJECTS, JOBS, PODS)
SPEC = a_spec(datasets=ROWS, quantizations=["Q8_0"])


def completed(plane: ControlPlane, kubelet: Kubelet, path: str) -> None:
    def over() -> bool:
        kubelet.carry_on("bot", SPEC)
        return phase_of(plane, path) == "Complete"

    wait_until(over, "the job to be complete", SECONDS)


def test_it_outlives_a_restart_of_the_api_server(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """In the middle of a job: the same process goes on, and no Job is made twice."""
    kubelet = Kubelet(plane, namespace)
    path = applied(plane, namespace, SPEC)
    with operator(plane.kubeconfig, tmp_path, namespace) as process:
        pod = kubelet.pod_of("bot", "prepare")
        kubelet.begin(pod)
        with plane.without_api_server():
            # Its watches do, whether or not it has something to write.
            log = tmp_path / "operator.log"
            wait_until(lambda: "ClientConnectorError" in log.read_text(), "the operator to notice", SECONDS)
        kubelet.end_well(pod, SPEC)
        completed(plane, kubelet, path)
        assert process.poll() is None

    assert set(Counter(plane.jobs_made(namespace)).values()) == {1}


def test_a_watch_that_says_nothing_more_is_made_again(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Connections that a firewall has forgotten: what happens after it is seen all the same, in less than minutes."""
    kubelet = Kubelet(plane, namespace)
    with proxied(plane, tmp_path) as proxy, operator(proxy.kubeconfig, tmp_path, namespace):
        wait_until(lambda: proxy.watching == len(WATCHED), "the watches", SECONDS)
        proxy.silence()
        path = applied(plane, namespace, SPEC)
        completed(plane, kubelet, path)

    assert set(Counter(plane.jobs_made(namespace)).values()) == {1}
