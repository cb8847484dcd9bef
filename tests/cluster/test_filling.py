"""What no event has told is seen when the operator looks through all that there is."""

import asyncio
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from support.builders import a_spec
from support.control_plane import ControlPlane
from support.operator_process import applied
from support.small_cluster import ROWS, RULES
from tunesmith_operator.cache import Cache
from tunesmith_operator.filling import fill
from tunesmith_operator.kube import Kube
from tunesmith_operator.loop import Operator
from tunesmith_operator.turns import Turns

CONTAINER = {
    "name": "stage",
    "image": "none",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


async def filled(kubeconfig: Path, cache: Cache, namespace: str) -> list[tuple[str, str]]:
    """Whose turn it is after the cache was filled by a real API server."""
    configuration = Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    async with ApiClient(configuration) as client:
        turns = Turns()
        await fill(Operator(cache, turns, Kube(client), RULES), [namespace])
        return [await turns.take() for _ in range(len(turns))]


def test_what_came_and_went_unseen_is_noticed(plane: ControlPlane, namespace: str) -> None:
    """A new job, one that has changed and one that is gone; what is unchanged has no turn."""
    spec = a_spec(datasets=ROWS, quantizations=["Q8_0"])
    paths = {name: applied(plane, namespace, spec, name) for name in ("same", "edited", "gone")}
    cache = Cache()
    assert {name for _, name in asyncio.run(filled(plane.kubeconfig, cache, namespace))} == set(paths)

    plane.patch(paths["edited"], {"spec": {"suspend": True}})
    plane.delete(paths["gone"])
    applied(plane, namespace, spec, "new")

    assert {name for _, name in asyncio.run(filled(plane.kubeconfig, cache, namespace))} == {"edited", "new"}
    assert {name for _, name in cache.objects} == {"same", "edited", "new"}
    assert asyncio.run(filled(plane.kubeconfig, cache, namespace)) == []


def test_a_job_and_a_pod_that_went_unseen_give_their_owner_a_turn(plane: ControlPlane, namespace: str) -> None:
    """As the events would have, that were lost."""
    bodies = [
        {"metadata": {"name": name, "labels": {"tunesmith.dev/job": "bot"}}, "spec": {"containers": [CONTAINER]}}
        for name in ("a", "b")
    ]
    for body in bodies:
        plane.create(f"/api/v1/namespaces/{namespace}/pods", body)
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    template = {"spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}
    labels = {"tunesmith.dev/job": "other"}
    # Suspended, it makes no pod of its own.
    plane.create(jobs, {"metadata": {"name": "a", "labels": labels}, "spec": {"suspend": True, "template": template}})
    cache = Cache()
    asyncio.run(filled(plane.kubeconfig, cache, namespace))
    plane.delete(f"/api/v1/namespaces/{namespace}/pods/a", gracePeriodSeconds="0")
    plane.delete(f"{jobs}/a", propagationPolicy="Background")
    assert cache.has_jobs((namespace, "other"))

    assert set(asyncio.run(filled(plane.kubeconfig, cache, namespace))) == {(namespace, "bot"), (namespace, "other")}
    assert {name for _, name in cache.pods} == {"b"}
    assert not cache.has_jobs((namespace, "other"))
