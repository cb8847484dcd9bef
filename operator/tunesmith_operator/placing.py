"""Where a stage's pod runs and with what: first the operator's defaults, then what the manifest says.

Of each, ``*`` comes before the stage's own. Maps are merged and lists joined; of single values the last one holds.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tunesmith_api.placement import quantity_number
from tunesmith_api.spec import JobSpec, SecretReference
from tunesmith_api.stages import Stage, StoreLocation
from tunesmith_api.training import GPU_SHOWN_SHARE
from tunesmith_operator.settings import OperatorSettings

_MEBIBYTE = 1 << 20
_PVC = "pvc://"
_MERGED = ("nodeSelector", "labels", "annotations")
_JOINED = ("tolerations", "imagePullSecrets")


def placed(stage: Stage, spec: JobSpec, settings: OperatorSettings) -> dict[str, Any]:
    """The placement of a stage as one, in the manifest's form (`Placement`), without its name."""
    named: list[dict[str, Any]] = []
    for source in (settings.placement, spec.stages):
        for name in ("*", stage.value):
            named += [place.to_json_dict() for place in source if place.name == name]
    merged = _ranked(spec.priority, settings)
    for place in named:
        _merge(merged, place)
    return merged


def _ranked(priority: int, settings: OperatorSettings) -> dict[str, Any]:
    """The PriorityClass of a priority: the scheduler then takes first what waits for the same GPU."""
    classes = settings.priority_classes
    if classes is None or priority == 0:
        return {}
    return {"priorityClassName": classes.above if priority > 0 else classes.below}


def _merge(into: dict[str, Any], place: dict[str, Any]) -> None:
    for name, value in place.items():
        if name == "name" or not value:
            continue
        if name in _MERGED:
            into[name] = into.get(name, {}) | value
        elif name in _JOINED:
            into[name] = [*into.get(name, []), *(each for each in value if each not in into.get(name, []))]
        elif name == "resources":
            before = into.get(name, {})
            into[name] = {kind: before.get(kind, {}) | value.get(kind, {}) for kind in ("requests", "limits")}
        else:
            into[name] = value


def with_gpu(place: dict[str, Any], spec: JobSpec, settings: OperatorSettings) -> dict[str, Any]:
    """The placement of a training that asks for a GPU: the resource, the nodes that have it, and their usual taint."""
    gpu = spec.training.gpu
    if gpu is None:
        return place
    more: dict[str, Any] = {
        "resources": {"limits": {settings.gpu_resource: "1"}},
        # Clusters taint GPU nodes with the resource's name (ExtendedResourceToleration admission does the same).
        "tolerations": [{"key": settings.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}],
    }
    if gpu.product is not None:
        more["nodeSelector"] = {settings.gpu_product_label: gpu.product}
    placed_there = dict(place)
    _merge(placed_there, more)
    if gpu.memory is not None:
        placed_there["affinity"] = _beside(place.get("affinity"), _has_memory(gpu.memory, settings))
    return placed_there


def _has_memory(memory: str, settings: OperatorSettings) -> dict[str, Any]:
    """In the label's MiB, of which a card shows less than it is sold as. Gt means more than, of whole numbers."""
    wanted = int(quantity_number(memory) / Decimal(_MEBIBYTE) * Decimal(str(GPU_SHOWN_SHARE)))
    return {"key": settings.gpu_memory_label, "operator": "Gt", "values": [str(max(wanted - 1, 0))]}


def _beside(affinity: dict[str, Any] | None, condition: dict[str, Any]) -> dict[str, Any]:
    """An affinity with one more condition on the node: it has to hold in each of the terms, of which one must."""
    needed = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = dict(affinity or {})
    nodes = dict(affinity.get("nodeAffinity") or {})
    terms = (nodes.get(needed) or {}).get("nodeSelectorTerms") or [{}]
    joined = [term | {"matchExpressions": [*term.get("matchExpressions", []), condition]} for term in terms]
    return affinity | {"nodeAffinity": nodes | {needed: {"nodeSelectorTerms": joined}}}


def secret_names(stage: Stage, spec: JobSpec, store: StoreLocation) -> tuple[str, ...]:
    """The Secrets that a stage reads: the store's for all, the sources' for prepare, the hub's for publish.

    prepare looks whether the hub's is there, so that it is not found missing after the training.
    """
    references: list[SecretReference | None] = []
    if stage is Stage.PREPARE:
        held_out = spec.evaluation.dataset
        references += [spec.model.secret_ref, *(dataset.secret_ref for dataset in spec.datasets)]
        references += [] if held_out is None else [held_out.secret_ref]
    if stage in (Stage.PREPARE, Stage.PUBLISH) and spec.publish.hub is not None:
        references.append(spec.publish.hub.secret_ref)
    named = (reference.name for reference in references if reference is not None)
    return _unique(name for name in (store.secret, store.ca_secret, *named) if name is not None)


def claims(spec: JobSpec) -> tuple[str, ...]:
    """The PersistentVolumeClaims that prepare reads sources from."""
    claimed = (source for source in spec.sources().values() if source.startswith(_PVC))
    return _unique(source.removeprefix(_PVC).partition("/")[0] for source in claimed)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
