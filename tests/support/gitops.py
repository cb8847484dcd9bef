"""What Argo CD, Flux and kstatus take objects for: by their own code, and by what this project gives them."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.control_plane import ROOT
from support.server_binaries import cached_binary, go

SOURCE = ROOT / "tests" / "gitops"
SCRIPT = ROOT / "charts" / "gitops" / "health.lua"
FLUX = ROOT / "examples" / "gitops" / "flux" / "models.yaml"


@dataclass(frozen=True)
class Taken:
    """Health and message in Argo CD, status in Flux with the example's expressions, and by kstatus alone."""

    argocd: str
    message: str
    flux: str
    kstatus: str


def gitops_binary() -> Path:
    """Their code in one program, built from its modules when it is not in the cache (2 minutes)."""
    version = "flux-0.100.0"

    def build(work: Path) -> Path:
        arguments = ["build", "-C", str(SOURCE), "-trimpath", "-ldflags", "-s -w", "-o", str(work / "gitops"), "."]
        go(arguments, {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"})
        return work / "gitops"

    return cached_binary(f"gitops-{version}", "building what GitOps tools read with, about 2 minutes", build)


def taken_for(objects: Sequence[dict[str, Any]]) -> list[Taken]:
    """Each object as it was got from an API server; AssertionError with the program's words if it fails."""
    [checks] = yaml.safe_load(FLUX.read_text())["spec"]["healthCheckExprs"]
    exprs = {name: checks[name] for name in ("inProgress", "failed", "current")}
    given = json.dumps({"objects": list(objects), "exprs": exprs})
    done = subprocess.run([gitops_binary(), SCRIPT], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Taken(**each) for each in json.loads(done.stdout)]
