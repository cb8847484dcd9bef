"""charts/tunesmith/README.md, as helm-docs writes it out of the values' comments.

``python -m support.chart_readme`` writes it.
"""

import shutil
import tempfile
from pathlib import Path

from support.install_yaml import CHART
from support.server_binaries import cached_binary, go_install, run_to_end

HELM_DOCS_VERSION = "v1.14.2"
FILE = CHART / "README.md"


def helm_docs() -> Path:
    """The tool, built from its module when it is not in the cache (half a minute)."""

    def build(work: Path) -> Path:
        go_install(f"github.com/norwoodj/helm-docs/cmd/helm-docs@{HELM_DOCS_VERSION}", work, {"CGO_ENABLED": "0"})
        return work / "helm-docs"

    return cached_binary(f"helm-docs-{HELM_DOCS_VERSION}", "building helm-docs", build)


def written() -> str:
    """What the tool makes of the chart as it is."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Chart.yaml", "values.yaml", "README.md.gotmpl"):
            shutil.copy(CHART / name, folder)
        run_to_end([str(helm_docs()), "--chart-search-root", folder, "--skip-version-footer"])
        return (Path(folder) / "README.md").read_text()


if __name__ == "__main__":
    FILE.write_text(written())
