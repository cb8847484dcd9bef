"""An authority of the cluster's own, what it signs, and an administrator's kubeconfig."""

import tempfile
from base64 import b64encode
from pathlib import Path

import yaml

from support.real_cluster.layout import API_SERVER, KUBERNETES_SERVICE, NODE_IP, Layout
from support.server_binaries import run_to_end

_DAYS = "365"
_API_SERVER_NAMES = [
    *(f"DNS:{name}" for name in ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")),
    *(f"IP:{address}" for address in ("127.0.0.1", NODE_IP, KUBERNETES_SERVICE)),
]


def make(layout: Layout) -> None:
    """All keys and certificates below ``pki``, and the kubeconfig; again: nothing."""
    if layout.kubeconfig.exists():
        return
    pki = layout.pki
    pki.mkdir(parents=True, exist_ok=True)
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    run_to_end(
        [*new, "-x509", "-keyout", f"{pki}/ca.key", "-out", f"{pki}/ca.crt", "-days", _DAYS, "-subj", "/CN=test-ca"]
    )
    _sign(pki, "apiserver", "/CN=kube-apiserver", f"subjectAltName={','.join(_API_SERVER_NAMES)}")
    _sign(pki, "admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth")
    run_to_end(["openssl", "genrsa", "-out", f"{pki}/sa.key", "2048"])
    run_to_end(["openssl", "rsa", "-in", f"{pki}/sa.key", "-pubout", "-out", f"{pki}/sa.pub"])
    partial = layout.kubeconfig.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(yaml.safe_dump(_kubeconfig(pki)))
    partial.replace(layout.kubeconfig)


def _sign(pki: Path, name: str, subject: str, extension: str) -> None:
    key, request, certificate = (f"{pki}/{name}.{ending}" for ending in ("key", "csr", "crt"))
    run_to_end(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", subject])
    with tempfile.NamedTemporaryFile("w") as extensions:
        extensions.write(extension)
        extensions.flush()
        authority = ["-CA", f"{pki}/ca.crt", "-CAkey", f"{pki}/ca.key", "-CAcreateserial"]
        files = ["-in", request, "-out", certificate, "-extfile", extensions.name]
        run_to_end(["openssl", "x509", "-req", *authority, "-days", _DAYS, *files])


def _kubeconfig(pki: Path) -> dict[str, object]:
    held = {name: b64encode((pki / name).read_bytes()).decode() for name in ("ca.crt", "admin.crt", "admin.key")}
    user = {"client-certificate-data": held["admin.crt"], "client-key-data": held["admin.key"]}
    cluster = {"server": API_SERVER, "certificate-authority-data": held["ca.crt"]}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
