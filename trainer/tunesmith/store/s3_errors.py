"""What an S3 service or the way to it says went wrong goes in; a classified failure without secrets comes out."""

from http import HTTPStatus
from typing import Any

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError, ProxyError, SSLError

from tunesmith.proxies import PROXY_HINT
from tunesmith.store.protocol import NotFoundInStoreError
from tunesmith_api.failures import FailureClass, StageFailure

# Errors of the API reference of Amazon S3 ("Error responses"), and MinIO's own with an X.
_ABSENT = {"NoSuchKey", "NoSuchObject", "ResourceNotFound"}
_DENIED = {
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientCapacity"}
_STATUS_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict"}
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed"}

S3_ERRORS = (MinioException, HTTPError, ConnectionError)


def s3_failure(error: Exception, action: str, uri: str, proxy: str | None = None) -> Exception:
    """The failure to raise for an error of the S3 SDK or of the transport below it; `proxy` is the one between."""
    where = f"{uri} through the proxy {proxy}" if proxy else uri
    hint = PROXY_HINT if proxy else None
    if isinstance(error, MinioException):
        if _status(error) == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return _unknown_to_proxy(action, where)
        if proxy and isinstance(error, InvalidResponseError):
            # Not in the words of S3: the proxy itself has answered.
            message = f"cannot {action}: {where} answers {_code(error)}"
            return StageFailure(FailureClass.STORE_UNAVAILABLE, message, hint)
        return _answered(error, action, where, hint)
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    if isinstance(error, MaxRetryError) and isinstance(reason, ProxyError):
        # Its own word for which: a role's credentials may come through a proxy where the service needs none.
        between: Any = error.pool
        return _stopped_at_proxy(reason.original_error, action, f"{uri} through the proxy {between.proxy.netloc}")
    if isinstance(reason, SSLError):
        return StageFailure(
            FailureClass.STORE_UNAVAILABLE,
            f"cannot {action}: the TLS certificate of {where} is not trusted",
            "Put the certificate of its authority as 'ca.crt' into the Secret of spec.store.caSecretRef.",
        )
    message = f"cannot {action}: {where} does not answer ({_kind(reason)})"
    return StageFailure(FailureClass.STORE_UNAVAILABLE, message, hint)


def _answered(error: MinioException, action: str, where: str, hint: str | None) -> Exception:
    code, status = _code(error), _status(error)
    if code in _ABSENT:
        return NotFoundInStoreError(f"{action} in {where}: no such object")
    if code == "NoSuchBucket":
        return StageFailure(
            FailureClass.STORE_UNAVAILABLE,
            f"cannot {action}: the bucket of {where} does not exist",
            "Create the bucket, or correct spec.store.uri.",
        )
    if code == "RequestTimeTooSkewed":
        return StageFailure(
            FailureClass.ACCESS_DENIED, f"cannot {action}: {where} sees another time", "Set this machine's clock."
        )
    if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
        return StageFailure(FailureClass.STORE_FULL, f"cannot {action}: {where} is full ({code})")
    if code in _DENIED or status in _STATUS_DENIED:
        return StageFailure(FailureClass.ACCESS_DENIED, f"not allowed to {action}: {where} answers {code}")
    return StageFailure(FailureClass.STORE_UNAVAILABLE, f"cannot {action}: {where} answers {code}", hint)


def _stopped_at_proxy(error: Exception, action: str, where: str) -> StageFailure:
    """The proxy is away, or answers CONNECT with something else than a tunnel: http.client has only words for that."""
    _, refused, answer = str(error).partition("Tunnel connection failed: ")
    if answer.startswith(str(int(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED))):
        return _unknown_to_proxy(action, where)
    why = f"it answers {answer}" if refused else f"it does not answer ({_kind(error)})"
    return StageFailure(FailureClass.STORE_UNAVAILABLE, f"cannot {action}: no way to {where}: {why}", PROXY_HINT)


def _unknown_to_proxy(action: str, where: str) -> StageFailure:
    hint = (
        "Put name and password into the proxy's address, http://name:password@host:port, with what is neither letter "
        "nor digit written as %XX."
    )
    message = f"cannot {action}: no way to {where}: it wants another name and password"
    return StageFailure(FailureClass.ACCESS_DENIED, message, hint)


def _code(error: MinioException) -> str:
    if isinstance(error, S3Error) and error.code:
        return error.code
    status = _status(error)
    return f"HTTP {status}" if status else type(error).__name__


def _status(error: MinioException) -> int | None:
    match error:
        case S3Error():
            return error.response.status
        case ServerError():
            return error.status_code
        case InvalidResponseError():
            return error._code  # noqa: SLF001  # the SDK offers it nowhere else
    return None


def _kind(reason: BaseException) -> str:
    return type(reason).__name__.removesuffix("Error")
