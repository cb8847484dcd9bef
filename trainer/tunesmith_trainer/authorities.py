"""Authorities of a network's own are trusted beside the public ones: one file of both, which every library takes."""

import os
from pathlib import Path

import certifi

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.names import AUTHORITIES_VARIABLE

# OpenSSL and httpx read the first, requests (fsspec, datasets) the second.
_READ_BY_LIBRARIES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def trust_own_authorities(work: Path) -> None:
    """Let this process and those that it starts trust what `AUTHORITIES_VARIABLE` names; without it nothing changes.

    StageFailure (SpecInvalid) where the file cannot be read.
    """
    own = os.environ.get(AUTHORITIES_VARIABLE)
    if own is None:
        return
    try:
        certificates = Path(own).read_bytes()
    except OSError as error:
        message = f"the authorities to trust cannot be read: {error}"
        hint = "The ConfigMap that the operator's network.caConfigMap names needs the key ca.crt."
        raise StageFailure(FailureClass.SPEC_INVALID, message, hint) from error
    both = work / "authorities.pem"
    both.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + certificates)
    os.environ.update(dict.fromkeys(_READ_BY_LIBRARIES, str(both)))
