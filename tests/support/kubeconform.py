"""kubeconform over rendered manifests, with schemas made of Kubernetes' own published API (its module has it)."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from support.control_plane import CRD
from support.server_binaries import cached_binary, go, go_install
from tunesmith.cache import cache_dir

VERSION = "v0.7.0"
# The oldest that the chart takes, and newer ones up to that of the tests.
KUBERNETES = ("v1.31.0", "v1.32.0", "v1.33.0", "v1.34.4")
# Shapes that the published API calls strings, and that take numbers too.
_ALSO_NUMBERS = ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity")
# Of other projects, whose schemas are not Kubernetes'.
_OTHERS = "PodMonitor,PrometheusRule"


def problems(manifest: str, kubernetes: str) -> list[str]:
    """What a version of Kubernetes would not take of these objects, strictly: no field that it does not know."""
    where = f"{schemas(kubernetes)}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [_kubeconform(), "-strict", "-output", "json", "-schema-location", where, "-skip", _OTHERS]
    done = subprocess.run(command, input=manifest, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout).get("resources") or []
    return [f"{each['kind']} {each['name']}: {each['status']} {each['msg']}" for each in found]


def _kubeconform() -> Path:
    def build(work: Path) -> Path:
        go_install(f"github.com/yannh/kubeconform/cmd/kubeconform@{VERSION}", work, {"CGO_ENABLED": "0"})
        return work / "kubeconform"

    return cached_binary(f"kubeconform-{VERSION}", "building kubeconform", build)


def schemas(kubernetes: str) -> Path:
    """A folder with a schema per kind: Kubernetes' of that version, and our CRD's as it is now."""
    folder = cache_dir() / "kubernetes-schemas" / kubernetes
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        _write(_published(kubernetes), made)
        made.rename(folder)
    crd = yaml.safe_load(CRD.read_text())["spec"]
    schema = crd["versions"][0]["schema"]["openAPIV3Schema"]
    (folder / _file(crd["names"]["kind"], crd["group"], "v1alpha1")).write_text(json.dumps(_strict(schema)))
    return folder


def _published(kubernetes: str) -> dict[str, Any]:
    """The OpenAPI document in Kubernetes' module, which the Go checksum database vouches for."""
    with tempfile.TemporaryDirectory() as name:
        settings = {"GOMODCACHE": name, "GOFLAGS": "-modcacherw"}
        at = json.loads(go(["mod", "download", "-json", f"k8s.io/kubernetes@{kubernetes}"], settings))["Dir"]
        document = dict(json.loads((Path(at) / "api" / "openapi-spec" / "swagger.json").read_text()))
        shutil.rmtree(at)
        return document


def _write(document: dict[str, Any], folder: Path) -> None:
    definitions = {name: _strict(each) for name, each in document["definitions"].items()}
    for name in _ALSO_NUMBERS:
        definitions[name] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    (folder / "definitions.json").write_text(json.dumps({"definitions": definitions}))
    for name, each in document["definitions"].items():
        for kind in each.get("x-kubernetes-group-version-kind", ()):
            file = _file(kind["kind"], kind["group"], kind["version"])
            (folder / file).write_text(json.dumps({"$ref": f"definitions.json#/definitions/{name}"}))


def _file(kind: str, group: str, version: str) -> str:
    """As kubeconform looks for it: of a group the part before its first dot, of the core's nothing."""
    return "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part) + ".json"


def _strict(schema: Any) -> Any:
    """With no property but those that are named, wherever some are."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _strict(value) for name, value in schema.items()}
    open_ = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    return made if open_ or not isinstance(made.get("properties"), dict) else made | {"additionalProperties": False}
