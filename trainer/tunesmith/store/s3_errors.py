"""What an S3 service or the way to it says went wrong goes in; a classified failure without secrets comes out."""

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

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
_STATUS_DENIED = {401, 403}
_STATUS_FULL = 507  # "Insufficient Storage", RFC 4918
CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict"}
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed"}

S3_ERRORS = (MinioException, HTTPError, ConnectionError)


def s3_failure(error: Exception, action: str, uri: str) -> Exception:
    """The failure to raise for an error of the S3 SDK or of the transport below it."""
    if isinstance(error, MinioException):
        code, status = _code(error), _status(error)
        return _answered(code, status, action, uri)
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    if isinstance(reason, SSLError):
        return StageFailure(
            FailureClass.STORE_UNAVAILABLE,
            f"cannot {action}: the TLS certificate of {uri} is not trusted",
            "Put the certificate of its authority as 'ca.crt' into the Secret of spec.store.caSecretRef.",
        )
    return StageFailure(FailureClass.STORE_UNAVAILABLE, f"cannot {action}: {uri} does not answer ({_kind(reason)})")


def _answered(code: str, status: int | None, action: str, uri: str) -> Exception:
    if code in _ABSENT:
        return NotFoundInStoreError(f"{action} in {uri}: no such object")
    if code == "NoSuchBucket":
        return StageFailure(
            FailureClass.STORE_UNAVAILABLE,
            f"cannot {action}: the bucket of {uri} does not exist",
            "Create the bucket, or correct spec.store.uri.",
        )
    if code == "RequestTimeTooSkewed":
        return StageFailure(
            FailureClass.ACCESS_DENIED, f"cannot {action}: {uri} sees another time", "Set this machine's clock."
        )
    if code in _FULL or status == _STATUS_FULL:
        return StageFailure(FailureClass.STORE_FULL, f"cannot {action}: {uri} is full ({code})")
    if code in _DENIED or status in _STATUS_DENIED:
        return StageFailure(FailureClass.ACCESS_DENIED, f"not allowed to {action}: {uri} answers {code}")
    return StageFailure(FailureClass.STORE_UNAVAILABLE, f"cannot {action}: {uri} answers {code}")


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
