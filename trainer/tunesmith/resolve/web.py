"""One file behind an ``https://`` address: what it is, and its content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.resolve.failures import absent, disk_full_is_told
from tunesmith.resolve.uri import Source
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20
_DENIED = (401, 403)
# The server knows its files, and this is none of them (RFC 9110, 15.5.5 and 15.5.11).
_ABSENT = (404, 410)
UNKNOWN_VERSION = "version:unknown"


def describe(source: Source, token: str | None) -> ResolvedFile:
    """The file's name and size; its identity is what the server calls its version (ETag or modification time).

    Asked by a GET whose body is not read: a presigned address is signed for GET alone, and refuses HEAD.
    """
    with _asked(source, token) as answer:
        return _described(source, answer)


def download(source: Source, target: Path, token: str | None) -> ResolvedFile:
    """Stream the file to `target`, which appears only when whole; what it was is told as by `describe`."""
    partial = target.with_name(target.name + ".partial")
    try:
        with disk_full_is_told(target.parent), _asked(source, token) as answer, partial.open("wb") as file:
            # Raw, since a server may call a .gz file an encoding, and then it would arrive unpacked.
            for chunk in answer.iter_raw(_CHUNK_BYTES):
                file.write(chunk)
        partial.replace(target)
        return _described(source, answer)
    finally:
        partial.unlink(missing_ok=True)


def _described(source: Source, answer: "httpx.Response") -> ResolvedFile:
    version = answer.headers.get("etag") or answer.headers.get("last-modified")
    size = int(answer.headers.get("content-length") or 0)
    name = Path(urlsplit(source.uri).path).name or "data"
    return ResolvedFile(path=name, size=size, digest=f"version:{version}" if version else UNKNOWN_VERSION)


@contextmanager
def _asked(source: Source, token: str | None) -> Iterator["httpx.Response"]:
    """The answer to a GET before its body is read; httpx's errors, while reading too, are told as failures."""
    import httpx

    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        # httpx sends the token to no other host than the one that it is for.
        with (
            httpx.Client(headers=headers, follow_redirects=True, timeout=_TIMEOUT_SECONDS) as client,
            client.stream("GET", source.uri) as answer,
        ):
            if any(each.url.scheme != "https" for each in (*answer.history, answer)):
                message = f"{source.told}: the server redirects to an address without encryption"
                raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, message)
            answer.raise_for_status()
            yield answer
    except httpx.HTTPStatusError as error:
        raise _refused(source, error.response.status_code) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind = type(error).__name__
        hint = (
            "Check the address, and that it is reached from here; an authority of your own is named by SSL_CERT_FILE."
        )
        raise StageFailure(FailureClass.SOURCE_UNAVAILABLE, f"{source.told}: no whole answer ({kind})", hint) from None


def _refused(source: Source, status: int) -> StageFailure:
    message = f"{source.told}: the server answered {status}"
    if status in _DENIED:
        hint = (
            "Name a Secret with the key token, which is sent as a bearer token; a presigned address may have expired."
        )
        return StageFailure(FailureClass.ACCESS_DENIED, message, hint)
    return absent(message) if status in _ABSENT else StageFailure(FailureClass.SOURCE_UNAVAILABLE, message)
