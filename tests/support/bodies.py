"""Objects as the API server sends them, with what the operator reads of them."""

from typing import Any

from tunesmith_api.names import JOB_LABEL, STAGE_LABEL


def a_body(name: str, version: int, stage: str = "train", **more: Any) -> dict[str, Any]:
    """An object of the namespace team, of the job bot; `owner` is the UID in its controller reference."""
    meta = {"name": name, "namespace": "team", "uid": more.pop("uid", name), "resourceVersion": str(version)}
    meta |= {"creationTimestamp": "2026-11-27T12:00:00Z", "labels": {JOB_LABEL: "bot", STAGE_LABEL: stage}}
    owner = more.pop("owner", None)
    meta["ownerReferences"] = [{"controller": True, "uid": owner}] if owner else []
    return {"metadata": meta} | more
