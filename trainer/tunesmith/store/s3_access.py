"""How an S3 service is reached: location, secrets and environment go in, address and credentials come out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    IamAwsProvider,
    Provider,
    StaticProvider,
)

from tunesmith.proxies import proxy_to
from tunesmith.secrets import lacking, secret_folder, secret_value
from tunesmith.store.s3_transport import connections
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.stages import StoreLocation

# What most services other than Amazon's take as their region (MinIO's and SeaweedFS's default).
_DEFAULT_REGION = "us-east-1"

# Set by Amazon's own agents where a pod or container has a role (AWS SDK reference, "container credential provider"
# and "assume role with web identity"); without them asking for a role would only wait for a network that is not there.
_ROLE_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True, slots=True)
class S3Address:
    """One prefix in one bucket of one service; `region` None means that the service is asked."""

    host: str
    secure: bool
    region: str | None
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """The service itself."""
        return f"{'https' if self.secure else 'http'}://{self.host}"


def s3_address(location: StoreLocation, environment: Mapping[str, str]) -> S3Address:
    """The address of an ``s3://bucket/prefix`` location (`SpecInvalid` if it is none).

    An endpoint without a scheme is https; without an endpoint it is the environment's, else Amazon S3.
    """
    parts = urlsplit(location.uri)
    if not parts.netloc:
        raise StageFailure(FailureClass.SPEC_INVALID, f"the store {location.uri!r} names no bucket")
    region = location.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    endpoint = location.endpoint or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    prefix = parts.path.strip("/")
    if not endpoint:
        host = f"s3.{region}.amazonaws.com" if region else "s3.amazonaws.com"
        return S3Address(host, secure=True, region=region, bucket=parts.netloc, prefix=prefix)
    service = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if service.scheme not in {"http", "https"} or not service.netloc or service.path.strip("/") or service.username:
        raise StageFailure(
            FailureClass.SPEC_INVALID,
            "the store's endpoint is not an address of the form http://host:port or https://host:port",
        )
    return S3Address(service.netloc, service.scheme == "https", region or _DEFAULT_REGION, parts.netloc, prefix)


def s3_credentials(location: StoreLocation, secrets: Path | None) -> Provider:
    """Credentials out of the named Secret, else out of the usual environment and files of S3 (`SecretMissing`)."""
    folder = secret_folder(location.secret, secrets)
    if folder is not None:
        return StaticProvider(*(_required(folder, key) for key in ("accessKey", "secretKey")))
    if any(os.environ.get(name) for name in _ROLE_VARIABLES):
        return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), _of_role(os.environ)])
    provider = ChainedProvider([EnvAWSProvider(), EnvMinioProvider(), AWSConfigProvider()])
    try:
        provider.retrieve()
    except ValueError as error:
        raise StageFailure(
            FailureClass.SECRET_MISSING,
            f"there are no credentials for the store {location.uri}",
            "Name a Secret with accessKey and secretKey in spec.store.secretRef (--store-secret where there is no "
            "manifest); on this machine AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY do too.",
        ) from error
    return provider


def _of_role(environment: Mapping[str, str]) -> Provider:
    """A role's credentials: by a web identity from a service of Amazon's outside, else from an agent on the node."""
    if not environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return IamAwsProvider()
    region = environment.get("AWS_REGION")
    proxy = proxy_to(f"https://sts.{region}.amazonaws.com" if region else "https://sts.amazonaws.com")
    return IamAwsProvider(http_client=connections(None, proxy))


def ca_file(location: StoreLocation, secrets: Path | None) -> Path | None:
    """The certificate authority of the service: ``ca.crt`` of its own Secret, else of the credentials' one."""
    folder = secret_folder(location.ca_secret, secrets)
    if folder is not None:
        return _present(folder, "ca.crt")
    folder = secret_folder(location.secret, secrets)
    return folder / "ca.crt" if folder is not None and (folder / "ca.crt").is_file() else None


def _required(folder: Path, key: str) -> str:
    value = secret_value(folder, key)
    if not value:
        raise _missing(folder, key)
    return value


def _present(folder: Path, key: str) -> Path:
    if not (folder / key).is_file():
        raise _missing(folder, key)
    return folder / key


def _missing(folder: Path, key: str) -> StageFailure:
    return StageFailure(
        FailureClass.SECRET_MISSING,
        f"the store's Secret {folder.name!r} {lacking(folder, key)}",
        "Create it in the job's namespace with accessKey and secretKey (ca.crt for an authority of your own), or name "
        "another.",
    )
