"""charts/install.yaml: the chart with its own values, for those without Helm.

``python -m support.install_yaml`` writes it.
"""

from support.control_plane import ROOT, VERSION
from support.server_binaries import helm_binary, run_to_end

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
    return _HEAD + templated()


def templated(*words: str, release: str = "tunesmith", namespace: str = NAMESPACE) -> str:
    """What `helm template` makes of the chart with these options; RuntimeError with its words if it fails."""
    at = ["template", release, str(CHART), "--namespace", namespace, "--kube-version", VERSION]
    return run_to_end([str(helm_binary()), *at, *words])


if __name__ == "__main__":
    FILE.write_text(rendered())
