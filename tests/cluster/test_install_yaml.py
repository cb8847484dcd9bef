"""charts/install.yaml, by a real API server: every object of it is one that it takes."""

import subprocess

from support.control_plane import ControlPlane, kubernetes_binary
from support.install_yaml import FILE, NAMESPACE


def test_the_api_server_takes_all_of_it(plane: ControlPlane) -> None:
    """As the operating guide has it applied, with unknown fields refused; but that nothing of it is kept."""
    plane.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    command = [kubernetes_binary(), "kubectl", f"--kubeconfig={plane.kubeconfig}", "apply", "--server-side"]
    words = [*command, "--force-conflicts", "--dry-run=server", "--validate=strict", f"--filename={FILE}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    kinds = {line.partition("/")[0].partition(".")[0] for line in done.stdout.splitlines()}
    assert {"namespace", "customresourcedefinition", "deployment", "clusterrole", "service"} <= kinds
