"""charts/install.yaml: the chart with its own values, for those without Helm.

``python -m support.install_yaml`` writes it.
"""

import subprocess

from support.control_plane import ROOT, VERSION
from support.server_binaries import helm_binary

CHART = ROOT / "charts" / "tunesmith"
FILE = ROOT / "charts" / "install.yaml"
NAMESPACE = "tunesmith-system"
_HEAD = f"""# The operator, for those without Helm: charts/tunesmith, rendered by 'make install-yaml'. Change that.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


def rendered() -> str:
    """All objects; RuntimeError with Helm's words if it fails."""
    words = ["template", "tunesmith", str(CHART), "--namespace", NAMESPACE, "--kube-version", VERSION]
    done = subprocess.run([helm_binary(), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"helm template: {done.stderr}")
    return _HEAD + done.stdout


if __name__ == "__main__":
    FILE.write_text(rendered())
