"""Which proxy leads to an address: the environment goes in; the proxy comes out, and its password apart from it."""

import base64
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tunesmith_api.failures import FailureClass, StageFailure

_PORTS = {"http": 80, "https": 443}
PROXY_HINT = (
    "Check HTTPS_PROXY and HTTP_PROXY (in a cluster the operator's network.httpsProxy and httpProxy); what is reached "
    "without a proxy belongs into NO_PROXY (network.noProxy)."
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """An address that may be shown; name and password stand in the header alone."""

    url: str
    headers: dict[str, str] = field(repr=False)

    @property
    def host(self) -> str:
        """With its port, where it has one of its own."""
        return urlsplit(self.url).netloc


def proxy_to(url: str) -> Proxy | None:
    """The proxy that leads to `url`; raises `SpecInvalid` for one that cannot be used."""
    named = named_for(url)
    return None if named is None else proxy_at(named, f"{urlsplit(url).scheme.upper()}_PROXY")


def named_for(url: str) -> str | None:
    """The proxy of an address as it is written, None where none is or NO_PROXY has the host, with its port or without.

    Read as Python's own urllib reads it: names in capitals and small letters, the latter first; the settings of macOS
    and Windows where the environment is silent.
    """
    parts = urlsplit(url)
    named = urllib.request.getproxies().get(parts.scheme)
    host = parts.hostname or ""
    at_port = f"{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS.get(parts.scheme)}"
    exempt = any(urllib.request.proxy_bypass(each) for each in (host, at_port))
    return None if exempt else named


def proxy_at(named: str, where: str) -> Proxy:
    """A proxy by its address, which may hold a password and no scheme; `where` says who named it (`SpecInvalid`)."""
    scheme, found, rest = named.strip().partition("://")
    # By the last "@": a password that holds one, or "/" or "#", is seldom escaped as it should be.
    secret, _, host = (rest if found else scheme).rpartition("@")
    url = f"{scheme.lower() if found else 'http'}://{host.partition('/')[0]}"
    if not _usable(url):
        # The address is not repeated: where it is broken nobody knows which part of it is the password.
        raise StageFailure(
            FailureClass.SPEC_INVALID, f"the proxy of {where} has no address of the form http://host:port", PROXY_HINT
        )
    basic = base64.b64encode(unquote(secret).encode()).decode()
    return Proxy(url, {"Proxy-Authorization": f"Basic {basic}"} if secret else {})


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no IPv6 address
        return False
