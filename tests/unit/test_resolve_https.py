"""Models and rows behind https:// addresses, from a real server: archives are hostile until they are unpacked."""

import gzip
import io
import json
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.hub import serving_hub
from support.tiny_sources import CONFIG
from support.web import Web, serving_web
from tunesmith.resolve import Access, fetch_model, resolve_dataset, resolve_model
from tunesmith.resolve.archives import unpack
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.placement import SecretReference
from tunesmith_api.spec import Dataset, Model

HEADER = json.dumps({"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(8),
    "tokenizer.json": b"{}",
    "README.md": b"---\nlicense: apache-2.0\n---\nA card.",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serving_web(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture
def web(served: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The server with nothing on it, its authority trusted, and an empty cache."""
    served.pages.clear()
    served.requests.clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(served.authority))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return served


def tar(files: dict[str, bytes], top: str = "model/", *more: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """An archive of files below a top folder, with more entries as they are."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(top + name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in more:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return packed.getvalue()


def zipped(files: dict[str, bytes], top: str = "model/") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
    return packed.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    """One entry of a tar that is not packed by its rules."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


def zip_link(name: str, target: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.tar.gz", tar(FILES)),
        ("model.tgz", tar(FILES, top="./")),
        ("model.tar", tar(FILES, top="", mode="w:")),
        ("model.zip", zipped(FILES)),
        ("flat.zip", zipped(FILES, top="") + b""),
    ],
)
def test_an_archive_is_a_model_like_any_other(web: Web, tmp_path: Path, name: str, content: bytes) -> None:
    """The same bytes in a folder are the same model, whatever they are packed in; the top folder is no part of it."""
    (tmp_path / "folder").mkdir()
    for path, data in FILES.items():
        (tmp_path / "folder" / path).write_bytes(data)
    model = Model(source=web.put(f"/{name}", content, etag="1"))
    found = resolve_model(model, Access(tmp_path))

    assert found.digest == resolve_model(Model(source="file://folder"), Access(tmp_path)).digest
    assert {file.path for file in found.files} == set(FILES) - {"README.md"}
    assert all(file.digest.startswith("sha256:") for file in found.files)
    assert (found.license, found.dimensions.parameters) == ("apache-2.0", 4)
    fetch_model(model, found, tmp_path / "fetched", Access(tmp_path))
    assert (tmp_path / "fetched" / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_an_archive_is_downloaded_once_for_each_version(web: Web, tmp_path: Path) -> None:
    """Address and ETag name what is in the cache; the server is only asked whether it has another one."""
    content = tar({**FILES, "big.txt": b"x" * (8 << 20)}, mode="w:")
    model = Model(source=web.put("/model.tar", content, etag="1"))
    first = resolve_model(model, Access(tmp_path))
    fetch_model(model, first, tmp_path / "fetched", Access(tmp_path))
    assert web.served("/model.tar") < 1.9 * len(content)

    web.put("/model.tar", tar({**FILES, "tokenizer.json": b'{"new": 1}'}, mode="w:"), etag="2")
    assert resolve_model(model, Access(tmp_path)).digest != first.digest
    with pytest.raises(StageFailure, match=r"tokenizer\.json") as caught:
        fetch_model(model, first, tmp_path / "again", Access(tmp_path))
    assert caught.value.failure is FailureClass.SOURCE_ABSENT
    assert "has changed since this job was made" in caught.value.message


def test_without_versions_every_look_is_a_download(web: Web, tmp_path: Path) -> None:
    """A server that tells neither ETag nor time is not believed to have the same."""
    model = Model(source=web.put("/model.tgz", tar(FILES)))
    first = resolve_model(model, Access(tmp_path))
    web.put("/model.tgz", tar({**FILES, "tokenizer.json": b'{"new": 1}'}))

    assert resolve_model(model, Access(tmp_path)).digest != first.digest


EVIL: list[tuple[str, str, bytes, str]] = [
    ("dot-dot", "m.tgz", tar(FILES, "model/", entry("../evil")), "outside of its folder: '../evil'"),
    ("dot-dot inside", "m.tgz", tar(FILES, "model/", entry("model/../../evil")), "outside of its folder"),
    ("absolute", "m.tgz", tar(FILES, "model/", entry("/tmp/evil")), "outside of its folder: '/tmp/evil'"),  # noqa: S108
    ("folder outside", "m.tgz", tar(FILES, "model/", entry("../evil", tarfile.DIRTYPE)), "outside of its folder"),
    (
        "symlink out",
        "m.tgz",
        tar(FILES, "model/", entry("model/x", tarfile.SYMTYPE, "/etc/passwd")),
        "neither file nor folder: 'model/x'",
    ),
    ("symlink within", "m.tgz", tar(FILES, "model/", entry("model/x", tarfile.SYMTYPE, "config.json")), "neither file"),
    (
        "hard link",
        "m.tgz",
        tar(FILES, "model/", entry("model/x", tarfile.LNKTYPE, "model/config.json")),
        "neither file",
    ),
    ("device", "m.tgz", tar(FILES, "model/", entry("model/x", tarfile.CHRTYPE)), "neither file nor folder"),
    ("pipe", "m.tgz", tar(FILES, "model/", entry("model/x", tarfile.FIFOTYPE)), "neither file nor folder"),
    ("the same twice", "m.tgz", tar(FILES, "model/", entry("model/config.json")), "holds config.json twice"),
    ("file as folder", "m.tgz", tar(FILES, "model/", entry("model/config.json/x")), "twice"),
    ("long name", "m.tgz", tar(FILES, "model/", entry("model/" + "x" * 300)), "name is too long"),
    ("dot-dot in a zip", "m.zip", zipped({"../../evil": b"x"}), "outside of its folder"),
    ("absolute in a zip", "m.zip", zipped({"/evil": b"x"}, top=""), "outside of its folder"),
    ("symlink in a zip", "m.zip", zip_link("model/x", "/etc/passwd"), "neither file nor folder"),
    ("no archive", "m.tgz", b"<html>not found</html>", "is no whole archive"),
    ("no zip", "m.zip", b"<html>not found</html>", "is no whole archive"),
    ("a tar cut off", "m.tgz", tar(FILES)[:-40], "is no whole archive"),
    ("empty", "m.tgz", tar({}), "has no config.json"),
]


@pytest.mark.parametrize(("name", "content", "said"), [pytest.param(*case[1:], id=case[0]) for case in EVIL])
def test_what_an_archive_must_not_hold_is_refused(
    web: Web, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """Invariant 8: ModelInvalid, nothing written outside, and nothing of it kept to be found the next time."""
    with pytest.raises(StageFailure) as caught:
        resolve_model(Model(source=web.put(f"/{name}", content, etag="1")), Access(tmp_path))

    assert caught.value.failure is FailureClass.MODEL_INVALID
    assert said in caught.value.message
    assert caught.value.hint
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/tmp/evil").exists()  # noqa: S108
    if said != "has no config.json":
        assert not list((tmp_path / "cache" / "sources").iterdir())


def pax_bomb() -> bytes:
    """A header that says that its text is long."""
    made = tarfile.TarInfo("model/config.json")
    made.pax_headers = {"comment": "x" * (40 << 20)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(made)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("bomb.tgz", lambda: tar({**FILES, "zeros.bin": bytes(40 << 20)})),
        ("bomb.zip", lambda: zipped({**FILES, "zeros.bin": bytes(40 << 20)})),
        ("header.tgz", pax_bomb),
        ("many.tgz", lambda: tar({f"{number}": b"" for number in range(10_001)})),
    ],
)
def test_a_bomb_is_refused(tmp_path: Path, name: str, made: Callable[[], bytes]) -> None:
    """What unpacks to over ten times its size and the floor (lower here: 40 MB are fast), or to countless files."""
    (tmp_path / name).write_bytes(made())
    (tmp_path / "target").mkdir()
    with pytest.raises(StageFailure, match=r"16 MiB|10000 entries") as caught:
        unpack(tmp_path / name, tmp_path / "target", "https://host/bomb", floor_bytes=16 << 20)

    assert caught.value.failure is FailureClass.MODEL_INVALID
    assert sum(path.stat().st_size for path in (tmp_path / "target").rglob("*") if path.is_file()) <= 17 << 20


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    """What counts is what comes out: the sizes in the directory say one byte."""
    content = bytearray(zipped({"zeros.bin": bytes(8 << 20)}, top=""))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 1)
    (tmp_path / "lies.zip").write_bytes(content)
    (tmp_path / "target").mkdir()

    with pytest.raises(StageFailure) as caught:
        unpack(tmp_path / "lies.zip", tmp_path / "target", "https://host/lies.zip", floor_bytes=1 << 20)
    assert caught.value.failure is FailureClass.MODEL_INVALID


def nameless_zip() -> bytes:
    """A directory whose only entry has no name (found by changing bytes at random: IndexError in zipfile)."""
    content = bytearray(zipped({"x": b""}, top=""))
    at = content.rindex(b"PK\x01\x02")
    content[at + 28 : at + 30] = struct.pack("<H", 0)
    content[at + 30 : at + 32] = struct.pack("<H", 1)
    return bytes(content)


def misplaced_zip() -> bytes:
    """A directory that is said to begin elsewhere (the same: zipfile seeks before the file's begin, OSError)."""
    content = bytearray(zipped({"x": b"y"}, top=""))
    at = content.rindex(b"PK\x05\x06")
    content[at + 16 : at + 20] = struct.pack("<I", struct.unpack("<I", content[at + 16 : at + 20])[0] + 40)
    return bytes(content)


@pytest.mark.parametrize("content", [nameless_zip(), misplaced_zip(), zipped(FILES)[:-30]])
def test_whatever_the_library_raises_it_is_a_broken_archive(tmp_path: Path, content: bytes) -> None:
    """Never Internal, "a defect of Tunesmith": the file is somebody else's."""
    (tmp_path / "m.zip").write_bytes(content)
    (tmp_path / "target").mkdir()
    with pytest.raises(StageFailure, match="is no whole archive") as caught:
        unpack(tmp_path / "m.zip", tmp_path / "target", "https://host/m.zip")

    assert caught.value.failure is FailureClass.MODEL_INVALID


def test_a_download_that_breaks_leaves_nothing(web: Web, tmp_path: Path) -> None:
    """The connection ends before the promised length: SourceUnavailable, and the next try gets all of it."""
    content = tar(FILES)
    model = Model(source=web.put("/model.tgz", content, etag="1", sent=len(content) - 10))
    with pytest.raises(StageFailure, match="no whole answer") as caught:
        resolve_model(model, Access(tmp_path))
    assert caught.value.failure is FailureClass.SOURCE_UNAVAILABLE

    web.put("/model.tgz", content, etag="1")
    assert resolve_model(model, Access(tmp_path)).files


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/gone.zip", 404, "SourceAbsent: {where}: the server answered 404"),
        ("/locked.zip", 403, "AccessDenied: {where}: the server answered 403"),
        ("/broken.zip", 500, "SourceUnavailable: {where}: the server answered 500"),
        ("/model.safetensors", 200, "ModelInvalid: {where} is no archive, and a model behind https:// must be one"),
        ("/org/name", 200, "ModelInvalid: {where} is no archive, and a model behind https:// must be one"),
    ],
)
def test_an_address_without_a_model_says_why(web: Web, tmp_path: Path, path: str, status: int, expected: str) -> None:
    """Each with its class and what is expected; the query, which may be a signature, is not repeated."""
    where = web.put(path, b"x", status=status)
    with pytest.raises(StageFailure) as caught:
        resolve_model(Model(source=where + "?signature=of-the-owner"), Access(tmp_path))

    assert f"{caught.value.failure.value}: {caught.value.message}" == expected.format(where=where)
    assert caught.value.hint
    assert "of-the-owner" not in caught.value.hint


def test_an_unknown_authority_is_not_trusted(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(StageFailure, match="no whole answer") as caught:
        resolve_model(Model(source=web.put("/model.tgz", tar(FILES))), Access(tmp_path))

    assert caught.value.failure is FailureClass.SOURCE_UNAVAILABLE
    assert "SSL_CERT_FILE" in caught.value.hint


def test_a_redirect_out_of_encryption_is_refused(web: Web, tmp_path: Path) -> None:
    """Whoever is in between could answer with any model."""
    with serving_hub() as plain:
        source = web.put("/model.tgz", status=302, location=f"{plain.url}/model.tgz")
        with pytest.raises(StageFailure, match="without encryption") as caught:
            resolve_model(Model(source=source), Access(tmp_path))

    assert caught.value.failure is FailureClass.SOURCE_UNAVAILABLE


def test_a_token_from_the_secret_opens_an_address(web: Web, tmp_path: Path) -> None:
    """Sent as a bearer token; without it the answer is AccessDenied."""
    source = web.put("/model.tgz", tar(FILES), etag="1", token="t-1")
    (tmp_path / "secrets" / "own").mkdir(parents=True)
    (tmp_path / "secrets" / "own" / "token").write_text("t-1\n")
    with pytest.raises(StageFailure) as caught:
        resolve_model(Model(source=source), Access(tmp_path))
    assert caught.value.failure is FailureClass.ACCESS_DENIED

    named = Model(source=source, secret_ref=SecretReference(name="own"))
    assert resolve_model(named, Access(tmp_path, tmp_path / "secrets")).files


def test_a_token_goes_to_no_other_host(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the named host redirects to, only what is open to all is fetched."""
    (tmp_path / "secrets" / "own").mkdir(parents=True)
    (tmp_path / "secrets" / "own" / "token").write_text("t-1")
    with serving_web(tmp_path / "other") as other:
        both = tmp_path / "both.crt"
        both.write_bytes(web.authority.read_bytes() + other.authority.read_bytes())
        monkeypatch.setenv("SSL_CERT_FILE", str(both))
        there = other.put("/model.tgz", tar(FILES), etag="1", token="t-1")
        source = web.put("/model.tgz", status=302, location=there)
        with pytest.raises(StageFailure) as caught:
            resolve_model(
                Model(source=source, secret_ref=SecretReference(name="own")), Access(tmp_path, tmp_path / "secrets")
            )

    assert caught.value.failure is FailureClass.ACCESS_DENIED
    assert [asked for _, asked, _ in other.requests] == ["/model.tgz"]


def test_a_presigned_address_is_asked_as_it_was_signed(web: Web, tmp_path: Path) -> None:
    """A signature for GET refuses HEAD; what is recorded and said has no query."""
    rows = b'{"prompt": "a", "completion": "b"}\n'
    source = web.put("/rows.jsonl", rows, etag="1", head=False) + "?X-Amz-Signature=of-the-owner"
    found = resolve_dataset(Dataset(source=source), Access(tmp_path))

    assert (found.folder / "rows.jsonl").read_bytes() == rows
    assert "of-the-owner" not in found.resolved.model_dump_json()
    assert found.resolved.uri == f"{web.url}/rows.jsonl"
    web.requests.clear()
    resolve_dataset(Dataset(source=source), Access(tmp_path))
    assert [method for method, _, _ in web.requests] == ["GET"]


def test_addresses_that_differ_in_their_query_are_two_sources(web: Web, tmp_path: Path) -> None:
    """Same path, length and version: what one asks for is not given to the other; the query is in no file's name."""
    pages = {"?part=1": b'{"prompt": "a", "completion": "b"}\n', "?part=2": b'{"prompt": "c", "completion": "d"}\n'}
    found = {}
    for query, rows in pages.items():
        source = web.put("/export", rows, etag="1") + query
        found[query] = resolve_dataset(Dataset(source=source), Access(tmp_path))

    assert {query: (each.folder / "export").read_bytes() for query, each in found.items()} == pages
    assert len({each.resolved.digest for each in found.values()}) == 2
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name]


def test_what_a_server_calls_an_encoding_is_kept_as_it_is(web: Web, tmp_path: Path) -> None:
    """A gzip file stays one: it is asked for as it lies there (identity)."""
    packed = gzip.compress(tar(FILES, mode="w:"))

    assert resolve_model(Model(source=web.put("/model.tar.gz", packed, etag="1")), Access(tmp_path)).files
