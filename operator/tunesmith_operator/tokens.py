"""Whose token is it: a pod's projected token, checked against the API server's published keys (contract 11)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import jwt.types

from tunesmith_operator.names import AUDIENCE

# What API servers sign with (kube-apiserver, --service-account-signing-key-file: RSA or ECDSA).
_ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
# Keys are asked for anew when a token names one that is not known, and not more often (seconds): whoever can reach the
# server can send such a token.
_ASK_EVERY = 60.0

Keys = Mapping[str, Any]
"""A JSON Web Key Set (RFC 7517)."""


@dataclass(frozen=True, slots=True)
class PodClaim:
    """The pod that a token was made for."""

    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class Tokens:
    """Checks tokens with the keys that `ask` gets from the API server."""

    ask: Callable[[], Awaitable[Keys]]
    clock: Callable[[], float] = time.monotonic
    _keys: dict[str, jwt.PyJWK] = field(default_factory=dict)
    _asked: float | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def pod_of(self, token: str) -> PodClaim | None:
        """The pod, None if the token is not one of this cluster's for us, or its time is over.

        Raises what `ask` raises; it is asked again then.
        """
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                return None
            needs: jwt.types.Options = {"require": ["exp", "aud"]}
            claims = jwt.decode(token, key, algorithms=_ALGORITHMS, audience=AUDIENCE, options=needs)
            told = claims["kubernetes.io"]
            return PodClaim(told["namespace"], told["pod"]["name"], told["pod"]["uid"])
        except (jwt.PyJWTError, KeyError, TypeError):
            return None

    async def _key(self, name: str) -> jwt.PyJWK | None:
        # One at a time: whoever comes while keys are asked for waits for them.
        async with self._asking:
            if name not in self._keys and (self._asked is None or self.clock() - self._asked >= _ASK_EVERY):
                found = jwt.PyJWKSet.from_dict(dict(await self.ask()))
                self._keys = {str(key.key_id): key for key in found.keys}
                self._asked = self.clock()
        return self._keys.get(name)
