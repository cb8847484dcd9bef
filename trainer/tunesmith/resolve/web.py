"""One file behind an ``https://`` address: what it is, and its content."""

from pathlib import Path
from urllib.parse import urlsplit

from tunesmith.secrets import secret_value
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20


def describe(uri: str, secret: Path | None) -> ResolvedFile:
    """The file's name and size; its identity is what the server calls its version (ETag or modification time)."""
    import httpx

    with httpx.Client(headers=_headers(secret), follow_redirects=True, timeout=_TIMEOUT_SECONDS) as client:
        try:
            answer = client.head(uri)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise _failure(uri, error) from error
    version = answer.headers.get("etag") or answer.headers.get("last-modified") or "unknown"
    name = Path(urlsplit(uri).path).name or "data"
    return ResolvedFile(path=name, size=int(answer.headers.get("content-length") or 0), digest=f"version:{version}")


def download(uri: str, target: Path, secret: Path | None) -> None:
    """Stream the file to `target`, which appears only when whole."""
    import httpx

    partial = target.with_name(target.name + ".partial")
    try:
        with httpx.stream(
            "GET", uri, headers=_headers(secret), follow_redirects=True, timeout=_TIMEOUT_SECONDS
        ) as answer:
            answer.raise_for_status()
            with partial.open("wb") as file:
                for chunk in answer.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)
    except httpx.HTTPError as error:
        raise _failure(uri, error) from error
    partial.replace(target)


def _headers(secret: Path | None) -> dict[str, str]:
    token = secret_value(secret, "token")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _failure(uri: str, error: Exception) -> StageFailure:
    import httpx

    # The query of an address may hold a signature: it is never repeated.
    where = urlsplit(uri)._replace(query="", fragment="").geturl()
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        failure = FailureClass.ACCESS_DENIED if status in (401, 403) else FailureClass.SOURCE_UNAVAILABLE
        return StageFailure(failure, f"{where}: the server answered {status}")
    return StageFailure(FailureClass.SOURCE_UNAVAILABLE, f"{where} cannot be reached ({type(error).__name__})")
