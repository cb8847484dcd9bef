"""The part of a node that tells logs: a node object whose kubelet is a server of this process, and pods on it.

The API server asks it as it asks any kubelet: GET /containerLogs/<namespace>/<pod>/<container> (kubelet, server.go).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.control_plane import ControlPlane
from support.servers import self_signed
from support.serving import serving


@dataclass
class LoggingNode:
    """Has a log for every pod that a test gives one; `asked` are the paths with their queries."""

    plane: ControlPlane
    name: str
    logs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def take(self, pod: dict[str, Any], log: bytes) -> None:
        """The pod is bound to this node, as by a scheduler, and its container writes."""
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
        self.plane.create(path, body)
        self.logs[meta["name"]] = log


@contextmanager
def logging_node(plane: ControlPlane, folder: Path, name: str) -> Iterator[LoggingNode]:
    """A node of that name, for the length of the block."""
    node = LoggingNode(plane, name)

    class Kubelet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            node.asked.append(self.path)
            pod = self.path.partition("?")[0].split("/")[3]
            self.send_response(200 if pod in node.logs else 404)
            self.end_headers()
            self.wfile.write(node.logs.get(pod, b"no such pod"))

        def log_message(self, *_: object) -> None:
            """pytest's output is no log of a kubelet."""

    folder.mkdir()
    self_signed(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    plane.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_port}},
    }
    plane.patch(f"/api/v1/nodes/{name}/status", {"status": status})
    with serving(server, folder):
        try:
            yield node
        finally:
            plane.delete(f"/api/v1/nodes/{name}")
