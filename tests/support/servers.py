"""Real S3 servers on loopback for the length of a block: `minio_server` and `seaweedfs_server`."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from minio import Minio

from support.server_binaries import minio_binary, weed_binary
from support.waiting import wait_until

ACCESS_KEY = "tunesmith-test"
SECRET_KEY = "not-a-secret-but-long"
BUCKET = "artifacts"

# Readiness of the slower one (SeaweedFS) takes 5 s on two idle cores.
_READY_SECONDS = 120.0


@dataclass(frozen=True)
class S3Server:
    """A running server with an empty bucket, and how to reach it."""

    name: str
    endpoint: str
    authority: Path | None = None
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    bucket: str = BUCKET

    def write_secret(self, folder: Path) -> None:
        """Lay the credentials down as a mounted Secret does: one file a key."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "accessKey").write_text(self.access_key)
        (folder / "secretKey").write_text(self.secret_key + "\n")
        if self.authority is not None:
            (folder / "ca.crt").write_bytes(self.authority.read_bytes())

    def client(self) -> Minio:
        """A plain client, for what a test does behind the store's back."""
        secure, host = self.endpoint.startswith("https"), self.endpoint.split("//")[1]
        http = urllib3.PoolManager(ca_certs=str(self.authority) if self.authority else None, retries=False)
        return Minio(host, self.access_key, self.secret_key, secure=secure, region="us-east-1", http_client=http)


@contextmanager
def minio_server(work: Path, *, data: Path | None = None, tls: bool = False) -> Iterator[S3Server]:
    """A MinIO server with one drive (`data`, default below `work`); with `tls` it has a certificate of its own."""
    [port] = free_ports(1)
    certificates = work / "certificates"
    certificates.mkdir(parents=True)
    authority = self_signed(certificates) if tls else None
    environment = {
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    command = [minio_binary(), "server", "--quiet", "--address", f"127.0.0.1:{port}"]
    command += ["--certs-dir", certificates, data or work / "data"]
    server = S3Server("minio", f"{'https' if tls else 'http'}://127.0.0.1:{port}", authority)
    with _running(command, environment, work, server):
        yield server


@contextmanager
def seaweedfs_server(work: Path) -> Iterator[S3Server]:
    """A SeaweedFS with master, volume, filer and S3 gateway in one process."""
    data = work / "data"
    data.mkdir(parents=True)
    identity = {"name": "test", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (work / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(8)
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    command = [weed_binary(), "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-s3", f"-s3.config={work / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    # Relative to the working folder: socket paths have at most 108 bytes (unix(7)).
    command += ["-s3.localSocket=s3.sock", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    server = S3Server("seaweedfs", f"http://127.0.0.1:{ports[6]}")
    with _running(command, {}, work, server):
        yield server


@contextmanager
def _running(command: list[Path | str], environment: dict[str, str], work: Path, server: S3Server) -> Iterator[None]:
    log = work / "server.log"
    # The server dies with the test run, even when that is killed.
    tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*tied, *map(str, command)],
            env=os.environ | environment | {"HOME": str(work)},
            cwd=work,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _bucket_made(process, server, log), f"{server.name} to take objects", _READY_SECONDS)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _bucket_made(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"{server.name} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    client = server.client()
    try:
        if not client.bucket_exists(server.bucket):
            client.make_bucket(server.bucket)
        client._put_object(server.bucket, "ready", b"1")
        client.remove_object(server.bucket, "ready")
    except Exception:  # noqa: BLE001  # whatever it is, the server is not ready
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held at once so that they differ."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def self_signed(folder: Path) -> Path:
    """MinIO's names for its key pair; the certificate is its own authority."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "private.key"), "-out", str(folder / "public.crt")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "public.crt"
