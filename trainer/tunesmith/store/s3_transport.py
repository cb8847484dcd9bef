"""The way to an S3 service: an authority to trust and a proxy to take go in, a pool of connections comes out."""

import os
import ssl
from pathlib import Path
from typing import Any

import certifi
import urllib3

from tunesmith.proxies import Proxy

# Three attempts to connect of 5 s and the pauses between them: an absent service is reported within 20 s.
_CONNECT_SECONDS = 5.0
_CONNECT_RETRIES = 2
# Completing a large multipart upload may keep a service busy this long before it answers.
_READ_SECONDS = 60.0
_READ_RETRIES = 2
# A service that answers 500 to 504 is asked again after 0, 1, 2 and 4 s (urllib3 pauses from the second time on): 7 s,
# where the SDK's own five times take 6 s.
_RETRIES = 4
_BACKOFF = 0.5
# More than are ever in use: 4 files (folders.py) of 3 parts make 12. urllib3 closes what comes back beyond its number.
_CONNECTIONS = 32


def connections(authority: Path | None, proxy: Proxy | None) -> urllib3.PoolManager:
    """Nothing is contacted yet; `authority` is the service's own, the public ones count without it."""
    public = os.environ.get("SSL_CERT_FILE") or certifi.where()
    settings: dict[str, Any] = {
        "maxsize": _CONNECTIONS,
        "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": str(authority) if authority else public,
        "retries": _retries(),
    }
    if proxy is None:
        return urllib3.PoolManager(**settings)
    # The service's own authority says nothing of a proxy that is itself behind https://.
    of_proxy = ssl.create_default_context(cafile=public)
    return urllib3.ProxyManager(proxy.url, proxy_headers=proxy.headers, proxy_ssl_context=of_proxy, **settings)


def _retries() -> urllib3.Retry:
    return urllib3.Retry(
        total=_RETRIES,
        connect=_CONNECT_RETRIES,
        read=_READ_RETRIES,
        other=0,  # a certificate that is not trusted will not be a second later, nor a proxy that refuses
        backoff_factor=_BACKOFF,
        status_forcelist=[500, 502, 503, 504],
        # The last answer is returned rather than replaced by "too many errors": its code says more.
        raise_on_status=False,
    )
