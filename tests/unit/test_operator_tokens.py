"""Whose token it is: keys that come late, come anew, or do not come; real signatures."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tunesmith_operator.names import AUDIENCE
from tunesmith_operator.tokens import PodClaim, Tokens


class Signer:
    """A key of an API server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())

    def published(self) -> dict[str, Any]:
        public = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**public, "kid": self.name, "alg": "ES256", "use": "sig"}

    def token(self, **claims: Any) -> str:
        told = {"namespace": "team", "pod": {"name": "a", "uid": "1"}}
        body = {"aud": [AUDIENCE], "exp": time.time() + 60, "kubernetes.io": told} | claims
        return jwt.encode(body, self.key, algorithm="ES256", headers={"kid": self.name})


class Server:
    """What it publishes, and how often it was asked; None: it is away."""

    def __init__(self, *signers: Signer) -> None:
        self.signers: tuple[Signer, ...] | None = signers
        self.asked = 0

    async def keys(self) -> Mapping[str, Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.signers is None:
            raise TimeoutError
        return {"keys": [signer.published() for signer in self.signers]}


def test_a_pod_is_known_by_its_token() -> None:
    """And keys are asked for once, however many come at the same time."""
    signer = Signer("one")
    server = Server(signer)

    async def asked() -> list[PodClaim | None]:
        tokens = Tokens(server.keys)
        return list(await asyncio.gather(*(tokens.pod_of(signer.token()) for _ in range(5))))

    assert asyncio.run(asked()) == [PodClaim("team", "a", "1")] * 5
    assert server.asked == 1


@pytest.mark.parametrize(
    "claims", [{"aud": ["https://kubernetes"]}, {"exp": time.time() - 600}, {"kubernetes.io": {"namespace": "team"}}]
)
def test_a_token_for_something_else_is_nobody_s(claims: dict[str, Any]) -> None:
    """For the API server, one that is over, and one that is bound to no pod."""
    signer = Signer("one")
    assert asyncio.run(Tokens(Server(signer).keys).pod_of(signer.token(**claims))) is None


def test_a_key_of_another_with_a_known_name_is_nobody_s() -> None:
    """The name of a key is no secret."""
    assert asyncio.run(Tokens(Server(Signer("one")).keys).pod_of(Signer("one").token())) is None


def test_keys_that_could_not_be_asked_for_are_asked_for_again() -> None:
    """Not a minute later, but by the next report."""
    signer = Signer("one")
    server = Server(signer)
    tokens = Tokens(server.keys)

    async def asked() -> PodClaim | None:
        known, server.signers = server.signers, None
        with pytest.raises(TimeoutError):
            await tokens.pod_of(signer.token())
        server.signers = known
        return await tokens.pod_of(signer.token())

    assert asyncio.run(asked()) == PodClaim("team", "a", "1")


def test_a_new_key_is_asked_for_and_no_oftener_than_once_a_minute() -> None:
    """API servers change their keys; anybody can send a token with an unknown one."""
    old, new = Signer("old"), Signer("new")
    server, now = Server(old), [0.0]
    tokens = Tokens(server.keys, lambda: now[0])

    async def asked() -> list[PodClaim | None]:
        first = await tokens.pod_of(old.token())
        server.signers = (old, new)
        early = await tokens.pod_of(new.token())
        now[0] = 60.0
        return [first, early, await tokens.pod_of(new.token())]

    pod = PodClaim("team", "a", "1")
    assert asyncio.run(asked()) == [pod, None, pod]
    assert server.asked == 2
