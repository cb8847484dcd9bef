"""The Kubernetes API as the operator uses it: lists in pages, single writes, and what became of them."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

# Objects per page of a list: the API server's own controllers use the same (client-go, pager.New).
PAGE = 500
OBJECTS = "/apis/tunesmith.dev/v1alpha1/finetunejobs"
JOBS = "/apis/batch/v1/jobs"
PODS = "/api/v1/pods"
KEYS = "/openid/v1/jwks"
# How long an answer is waited for (seconds): the API server itself gives up after 60 (--request-timeout).
_TIMEOUT_SECONDS = 65.0

Body = Mapping[str, Any]


def resource_of(path: str) -> str:
    """The resource that a path lists: jobs, pods, finetunejobs."""
    return path.rpartition("/")[2]


class Absent(Exception):
    """The object is not there any more (404), or is another of the same name."""


class Conflict(Exception):
    """The object is there already, or is newer than what was sent (409)."""


class Refused(Exception):
    """The API server does not take this, now or ever (403, 422): `message` says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Kube:
    """Raises `Absent`, `Conflict` or `Refused`; everything else as the client does.

    `asked` counts requests by verb and status, the status empty where no answer came.
    """

    client: ApiClient
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def list_everywhere(
        self, path: str, namespaces: Sequence[str], label: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        """All objects of a kind in these namespaces, or in all where none is named."""
        group, _, plural = path.rpartition("/")
        for each in [f"{group}/namespaces/{namespace}/{plural}" for namespace in namespaces] or [path]:
            async for body in self.list_all(each, label):
                yield body

    async def list_all(self, path: str, label: str = "", fields: str = "") -> AsyncIterator[dict[str, Any]]:
        """All objects of a kind that a label and a field selector let through, a page at a time."""
        selectors = {"labelSelector": label, "fieldSelector": fields}
        query = {"limit": str(PAGE)} | {name: value for name, value in selectors.items() if value}
        while True:
            page = await self._request("GET", path, query=query)
            for item in page["items"]:
                yield item
            following = page["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following

    async def signing_keys(self) -> dict[str, Any]:
        """The keys that the API server signs pods' tokens with (each service account may read them)."""
        return await self._request("GET", KEYS)

    async def create_job(self, job: Body) -> dict[str, Any]:
        """Make a Job; `Conflict` if its name is taken."""
        return await self._request("POST", _jobs_of(job["metadata"]["namespace"]), body=job)

    async def job_named(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The Job of a name, whoever has made it; None if there is none."""
        async for job in self.list_all(_jobs_of(namespace), fields=f"metadata.name={name}"):
            return job
        return None

    async def create_event(self, namespace: str, event: Body) -> None:
        """Tell what has happened."""
        await self._request("POST", _events_of(namespace), body=event)

    async def events_of(self, namespace: str, uid: str) -> AsyncIterator[dict[str, Any]]:
        """What has been told of an object."""
        async for event in self.list_all(_events_of(namespace), fields=f"regarding.uid={uid}"):
            yield event

    async def delete_job(self, namespace: str, name: str, uid: str, version: int) -> None:
        """Delete this Job as it was seen; its pods first, so that the name is free when they are gone.

        `Conflict` if it is a later one of its name, or has changed since.
        """
        conditions = {"uid": uid, "resourceVersion": str(version)}
        options = {"propagationPolicy": "Foreground", "preconditions": conditions}
        await self._request("DELETE", f"{_jobs_of(namespace)}/{name}", body=options)

    async def delete_object(self, namespace: str, name: str, uid: str) -> None:
        """Delete a FineTuneJob; what belongs to it goes after it."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        await self._request("DELETE", f"{_objects_of(namespace)}/{name}", body=options)

    async def write_status(self, namespace: str, name: str, version: int, status: Body) -> dict[str, Any]:
        """Replace the status of the object as it was seen; `Conflict` if it has changed since."""
        path = f"{_objects_of(namespace)}/{name}/status"
        body = {"metadata": {"resourceVersion": str(version)}, "status": status}
        return await self._request("PATCH", path, body=body, content="application/merge-patch+json")

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        # As client-go asks (rest.Request): signing keys have a media type of their own.
        headers = {"Accept": "application/json, */*"} | ({} if body is None else {"Content-Type": content})
        sent = await self.client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        code = ""
        try:
            answer = await self.client.call_api(*sent, _request_timeout=_TIMEOUT_SECONDS)
            data: bytes = await answer.response.read()
            code = str(answer.status)
        except ApiException as error:
            code = str(error.status or "")
            raise _told(error.status or 0, error.body) from error
        finally:
            self.asked[method, code] += 1
        if answer.status >= 400:  # noqa: PLR2004  # RFC 9110: errors begin here
            raise _told(answer.status, data)
        return dict(json.loads(data))


def _told(status: int, body: str | bytes | None) -> Exception:
    try:
        message = str(json.loads(body or b"{}").get("message", ""))
    except ValueError:
        message = ""
    known: dict[int, type[Exception]] = {404: Absent, 409: Conflict}
    if status in known:
        return known[status](message)
    return Refused(status, message or f"the API server answered {status}")


def _events_of(namespace: str) -> str:
    return f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"


def _jobs_of(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def _objects_of(namespace: str) -> str:
    return f"/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
