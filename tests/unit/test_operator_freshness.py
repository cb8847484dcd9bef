"""Whether a watch is dead: what the API server is known to have, and no watch tells of."""

import asyncio
from datetime import timedelta

import httpx
from prometheus_client import CollectorRegistry

from support.servers import free_ports
from support.small_cluster import NOON
from tunesmith_operator.freshness import DEAD_AFTER, Freshness
from tunesmith_operator.serving import Server

SECOND = timedelta(seconds=1)


def test_what_is_told_is_owed_no_more() -> None:
    """Whether the event or the answer to the write comes first."""
    freshness = Freshness()
    freshness.known("jobs", "a", 5, NOON)
    freshness.told("jobs", "a", 5, NOON)
    freshness.told("jobs", "a", 9, NOON)
    freshness.known("jobs", "a", 8, NOON)
    freshness.answered(NOON + 2 * DEAD_AFTER)

    assert freshness.behind("jobs") == timedelta()
    assert freshness.dead() == ()


def test_a_watch_is_behind_from_the_first_that_it_owes() -> None:
    """What comes after that does not make it younger, and another resource's watch is another's matter."""
    freshness = Freshness()
    freshness.told("pods", "a", 99, NOON)
    for second in range(200):
        freshness.known("jobs", "a", 5 + second, NOON + second * SECOND)
        freshness.answered(NOON + second * SECOND)

    assert freshness.behind("jobs") == 199 * SECOND
    assert freshness.behind("pods") == timedelta()
    assert freshness.dead() == ("jobs",)
    freshness.told("jobs", "b", 5 + 150, NOON)
    assert freshness.behind("jobs") == 48 * SECOND
    assert freshness.dead() == ()


def test_while_the_api_server_is_away_no_watch_is_to_blame() -> None:
    """Else the kubelet would start an operator anew that can do nothing about it."""
    freshness = Freshness()
    freshness.known("jobs", "a", 5, NOON)
    freshness.answered(NOON)

    assert freshness.behind("jobs") == timedelta()
    freshness.answered(NOON + 2 * DEAD_AFTER)
    assert freshness.dead() == ("jobs",)


def test_each_namespace_has_a_watch_of_its_own_where_they_are_named() -> None:
    """What one tells says nothing of another."""
    freshness = Freshness(namespaced=True)
    freshness.known("jobs", "a", 5, NOON)
    freshness.answered(NOON + 2 * DEAD_AFTER)
    freshness.told("jobs", "b", 9, NOON)

    assert freshness.dead() == ("jobs",)
    freshness.told("jobs", "a", 5, NOON)
    assert freshness.dead() == ()


def test_the_probe_fails_while_a_watch_is_dead() -> None:
    """And says which."""
    freshness = Freshness()
    [port] = free_ports(1)
    answers: list[httpx.Response] = []

    async def serve() -> None:
        async with Server(CollectorRegistry(), freshness).serving(port), httpx.AsyncClient(trust_env=False) as client:
            answers.append(await client.get(f"http://127.0.0.1:{port}/healthz"))
            freshness.known("pods", "a", 5, NOON)
            freshness.answered(NOON + 2 * DEAD_AFTER)
            answers.append(await client.get(f"http://127.0.0.1:{port}/healthz"))

    asyncio.run(serve())

    assert [answer.status_code for answer in answers] == [200, 503]
    assert answers[1].text == "dead watches: pods"
