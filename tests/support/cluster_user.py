"""Somebody with a kubeconfig who calls the commands for a cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.builders import a_spec
from support.cli import called
from support.control_plane import ControlPlane
from support.runs import Ran
from support.servers import S3Server
from support.small_cluster import ROWS
from tunesmith.store import Artifacts, open_store
from tunesmith_api.stages import StoreLocation

SPEC = a_spec(datasets=ROWS, quantizations=["Q8_0"])


@dataclass(frozen=True)
class User:
    """Somebody with a kubeconfig, a folder of manifests and credentials for the store, and a namespace."""

    plane: ControlPlane
    namespace: str
    folder: Path
    server: S3Server

    @property
    def path(self) -> str:
        return f"/apis/tunesmith.dev/v1alpha1/namespaces/{self.namespace}/finetunejobs/bot"

    @property
    def object(self) -> dict[str, Any]:
        return self.plane.get(self.path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self.plane.kubeconfig),
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "TUNESMITH_SECRETS": str(self.folder / "secrets"),
            "TUNESMITH_CACHE": str(self.folder / "cache"),
        }

    def calls(self, command: str, *arguments: str | Path) -> Ran:
        return called(command, *arguments, "--namespace", self.namespace, **self.environment)

    def writes(self, **spec: Any) -> Path:
        """A manifest of the job bot."""
        fields = {"model": {"source": "hf://org/model"}, "datasets": ROWS, "quantizations": ["Q8_0"]} | spec
        head = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "bot"}}
        (self.folder / "job.yaml").write_text(yaml.safe_dump(head | {"spec": fields}, sort_keys=False))
        return self.folder / "job.yaml"

    @property
    def store(self) -> dict[str, Any]:
        """The job's, in a prefix that is the namespace's; only pods have its Secret."""
        uri = f"s3://{self.server.bucket}/{self.namespace}"
        return {"uri": uri, "endpoint": self.server.endpoint, "secretRef": {"name": "minio"}}

    @property
    def artifacts(self) -> Artifacts:
        self.server.write_secret(self.folder / "pods" / "minio")
        location = StoreLocation(uri=self.store["uri"], endpoint=self.server.endpoint, secret="minio")
        return Artifacts(open_store(location, self.folder / "pods"), self.namespace)

    def stands(self, **status: Any) -> None:
        """What an operator would have written."""
        seen = {"observedGeneration": self.object["metadata"]["generation"]}
        self.plane.patch(f"{self.path}/status", {"status": seen | status})
