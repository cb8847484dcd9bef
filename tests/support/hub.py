"""A hub on loopback that speaks as much of the Hugging Face Hub's protocol as reading and publishing need.

Large files come through the LFS protocol or, as to the real hub, through Xet's: what hf_xet 1.8 falls back to.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from support.serving import serving

# Files from this size on are LFS objects, as on the real hub for safetensors (there by .gitattributes).
_LFS_SUFFIXES = (".safetensors", ".gguf", ".parquet")


@dataclass
class Repository:
    """A repository: content by path for each commit, commits by branch."""

    kind: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    card: dict[str, Any] = field(default_factory=dict)

    def push(self, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit on a branch with these files on top of what was there; its id."""
        content = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        digest = hashlib.sha1(usedforsecurity=False)
        for path, data in sorted(content.items()):
            digest.update(path.encode() + hashlib.sha256(data).digest())
        commit = digest.hexdigest()
        self.commits[commit], self.branches[branch] = content, commit
        return commit

    def commit(self, revision: str) -> str | None:
        """The commit that a branch or an id names."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """All repositories by (kind, name), the tokens that may read gated ones, and every request that came."""

    url: str = ""
    token: str = "hf_secret-of-the-tests"
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    card_errors: list[dict[str, str]] = field(default_factory=list)

    def create(self, name: str, files: dict[str, bytes], kind: str = "model", **facts: Any) -> Repository:
        """A new repository with one commit."""
        repository = self.repositories[kind, name] = Repository(kind, **facts)
        repository.push(files)
        return repository


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub that is up; point HF_ENDPOINT to its url."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield hub


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # one small method per address
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer_get()

        def do_GET(self) -> None:
            self._answer_get()

        def do_POST(self) -> None:
            hub.requests.append(("POST", self.path))
            body = self._body()
            path = urlsplit(self.path).path
            if path == "/api/repos/create":
                self._create(json.loads(body))
            elif match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/preupload/.+", path):
                files = [
                    {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(_LFS_SUFFIXES) else "regular"}
                    | {"shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self._json({"files": files})
            elif path.endswith("/info/lfs/objects/batch"):
                self._lfs_batch(json.loads(body))
            elif match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/commit/(.+)", path):
                self._commit(match[1], match[2], body)
            elif path == "/api/validate-yaml":
                self._json({"warnings": [], "errors": hub.card_errors}, status=400 if hub.card_errors else 200)
            elif path.startswith("/v1/xorbs/"):
                data = _content(body)
                hub.uploads[hashlib.sha256(data).hexdigest()] = data
                self._json({"was_inserted": True})
            elif path == "/v1/shards":
                self._json({"result": 1})
            else:
                self._error(404, "EntryNotFound")

        def do_PUT(self) -> None:
            hub.requests.append(("PUT", self.path))
            hub.uploads[self.path.rsplit("/", 1)[-1]] = self._body()
            self._json({})

        def _answer_get(self) -> None:
            hub.requests.append((self.command, self.path))
            path = unquote(urlsplit(self.path).path)
            if match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                self._info(match[1], match[2], match[3] or "main")
            elif match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", path):
                self._tree(match[1], match[2], match[3])
            elif re.fullmatch(r"/api/models/[^/]+/[^/]+/xet-write-token/main", path):
                self._json({"accessToken": "xet", "exp": 1 << 32, "casUrl": hub.url})
            elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._file("dataset" if match[1] else "model", match[2], match[3], match[4])
            else:
                self._error(404, "EntryNotFound")

        def _find(self, kind: str, name: str, revision: str) -> tuple[Repository, str] | None:
            """The repository and commit if this caller may see them; answers with the hub's error otherwise."""
            repository = hub.repositories.get((kind, name))
            known = self.headers.get("Authorization") == f"Bearer {hub.token}"
            if repository is None or (repository.private and not known):
                self._error(401 if not known else 404, "RepoNotFound")
                return None
            commit = repository.commit(revision)
            if commit is None:
                self._error(404, "RevisionNotFound")
                return None
            return repository, commit

        def _info(self, kind: str, name: str, revision: str) -> None:
            found = self._find(kind, name, revision)
            if found is None:
                return
            repository, commit = found
            siblings = [{"rfilename": path} | _facts(data, path) for path, data in repository.commits[commit].items()]
            told = {"id": name, "sha": commit, "siblings": siblings, "private": repository.private, "tags": []}
            self._json(told | {"gated": "manual" if repository.gated else False, "cardData": repository.card})

        def _tree(self, kind: str, name: str, revision: str) -> None:
            if (found := self._find(kind, name, revision)) is not None:
                repository, commit = found
                files = repository.commits[commit].items()
                self._json(
                    [{"type": "file", "path": path, "oid": _blob(data)} | _facts(data, path) for path, data in files]
                )

        def _file(self, kind: str, name: str, revision: str, path: str) -> None:
            found = self._find(kind, name, revision)
            if found is None:
                return
            repository, commit = found
            if repository.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._error(403, "GatedRepo")
                return
            data = repository.commits[commit].get(path)
            if data is None:
                self._error(404, "EntryNotFound")
                return
            etag = hashlib.sha256(data).hexdigest() if path.endswith(_LFS_SUFFIXES) else _blob(data)
            headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
            start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if start:
                end = int(start[2] or len(data) - 1)
                headers["Content-Range"] = f"bytes {start[1]}-{end}/{len(data)}"
                data = data[int(start[1]) : end + 1]
            self._send(206 if start else 200, data, headers)

        def _create(self, asked: dict[str, Any]) -> None:
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._error(401, "Unauthorized")
                return
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            kind = asked.get("type", "model")
            if (kind, name) in hub.repositories:
                self._send(409, json.dumps({"url": f"{hub.url}/{name}"}).encode(), {})
                return
            hub.create(name, {}, kind, private=asked.get("visibility") == "private")
            self._json({"url": f"{hub.url}/{name}"})

        def _lfs_batch(self, asked: dict[str, Any]) -> None:
            objects = [
                {"oid": item["oid"], "size": item["size"]}
                | {"actions": {"upload": {"href": f"{hub.url}/upload/{item['oid']}", "header": {}}}}
                for item in asked["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")

        def _commit(self, kind: str, name: str, body: bytes) -> None:
            import base64

            files: dict[str, bytes] = {}
            for line in body.decode().splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = hub.uploads[value["oid"]]
            commit = hub.repositories[kind, name].push(files)
            told = {"commitOid": commit, "commitUrl": f"{hub.url}/{name}/commit/{commit}", "success": True}
            self._json(told | {"hookOutput": ""})

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                data = b""
                while size := int(self.rfile.readline().strip(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _json(self, value: object, content_type: str = "application/json", status: int = 200) -> None:
            self._send(status, json.dumps(value).encode(), {"Content-Type": content_type})

        def _error(self, status: int, code: str) -> None:
            self._send(status, json.dumps({"error": code}).encode(), {"X-Error-Code": code, "X-Error-Message": code})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    return Handler


def _content(xorb: bytes) -> bytes:
    """The bytes in an object of Xet's storage that holds one file, of which nothing is compressible.

    Chunks follow each other, each after 8 bytes: version, length (3, little endian), compression (0: none), length.
    """
    content, at = b"", 0
    while at < len(xorb):
        length = int.from_bytes(xorb[at + 1 : at + 4], "little")
        assert xorb[at + 4] == 0, "a compressed chunk"
        content += xorb[at + 8 : at + 8 + length]
        at += 8 + length
    return content


def _blob(data: bytes) -> str:
    """Git's id of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _facts(data: bytes, path: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": len(data), "blobId": _blob(data)}
    if path.endswith(_LFS_SUFFIXES):
        sha256 = hashlib.sha256(data).hexdigest()
        facts["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": 134}
    return facts
