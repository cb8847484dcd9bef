"""What gc may remove: objects, manifests and roots go in, the objects that nothing needs come out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tunesmith.store.manifests import Manifest
from tunesmith.store.protocol import StoredObject
from tunesmith.store.published import KEY_DIGITS
from tunesmith.store.runs import Run
from tunesmith_api.stages import Kind

# Contract 4 of the design: what nothing refers to goes after this long, so that work under way keeps its parts.
UNREFERENCED_FOR = timedelta(days=7)

Artifact = tuple[str, str]  # kind and key


@dataclass(frozen=True, slots=True)
class Roots:
    """Where reachability begins: first digits of the keys that are published, and the runs by object name."""

    published: frozenset[str] = frozenset()
    runs: Mapping[str, Run] = field(default_factory=dict)


def published_prefixes(objects: Iterable[StoredObject]) -> frozenset[str]:
    """The key digits in the names ``published/<job>/<digits>/...`` of a namespace's objects."""
    parts = (item.name.split("/") for item in objects)
    return frozenset(part[2] for part in parts if part[0] == "published" and len(part) > 3)  # noqa: PLR2004


def unreachable(
    objects: Sequence[StoredObject], manifests: Mapping[Artifact, Manifest], roots: Roots, now: datetime
) -> list[StoredObject]:
    """The objects of one namespace (names below it) that gc removes, in the order in which to remove them.

    Kept are all published files, runs that were refreshed in the last 30 days, and what is reachable from both
    through the manifests' inputs: manifests, their files, logs, checkpoints of a training without a result, uploads.
    Of the rest goes what has not changed for 7 days. Manifests come first, so that an artifact is never whole in name
    only. Objects of unknown names are kept.
    """
    expired = {name for name, run in roots.runs.items() if run.expired(now)}
    living = [run for name, run in roots.runs.items() if name not in expired]
    live = _closure(_root_artifacts(manifests, roots.published, living), manifests)
    groups = _grouped(objects)
    old = {group for group, items in groups.items() if max(item.modified for item in items) < now - UNREFERENCED_FOR}
    kept = _kept_artifacts(manifests, live, old)
    attempts = {manifests[artifact].attempt for artifact in kept if artifact in manifests}
    needed = _Needed(
        artifacts=kept,
        attempts=frozenset(attempts),
        keys=frozenset(key for _, key in live),
        unfinished=frozenset(key for kind, key in live if (kind, key) not in manifests),
        uploads=frozenset(upload for run in living for upload in run.uploads),
    )
    removed = [
        item
        for group, items in groups.items()
        for item in items
        if item.name in expired or (group in old and not needed.keeps(group))
    ]
    return sorted(removed, key=lambda item: (not item.name.endswith("/manifest.json"), item.name))


@dataclass(frozen=True, slots=True)
class _Needed:
    artifacts: frozenset[Artifact]
    attempts: frozenset[str]
    keys: frozenset[str]
    unfinished: frozenset[str]
    uploads: frozenset[str]

    def keeps(self, group: tuple[str, ...]) -> bool:
        match group:
            case ("artifacts", kind, key):
                return (kind, key) in self.artifacts
            case ("attempts", attempt):
                return attempt in self.attempts
            case ("checkpoints", key):
                return key in self.unfinished
            case ("logs", _, key):
                return key in self.keys
            case ("uploads", digest):
                return digest in self.uploads
        return True


def _root_artifacts(
    manifests: Mapping[Artifact, Manifest], published: frozenset[str], living: Sequence[Run]
) -> set[Artifact]:
    named = {(item.kind, item.key) for run in living for item in run.keys}
    publications = {artifact for artifact in manifests if artifact[0] == Kind.PUBLICATION}
    return named | {artifact for artifact in publications if artifact[1][:KEY_DIGITS] in published}


def _closure(roots: set[Artifact], manifests: Mapping[Artifact, Manifest]) -> frozenset[Artifact]:
    reached, waiting = set(roots), list(roots)
    while waiting:
        manifest = manifests.get(waiting.pop())
        for item in manifest.inputs if manifest else ():
            if (item.kind, item.key) not in reached:
                reached.add((item.kind, item.key))
                waiting.append((item.kind, item.key))
    return frozenset(reached)


def _kept_artifacts(
    manifests: Mapping[Artifact, Manifest], live: frozenset[Artifact], old: set[tuple[str, ...]]
) -> frozenset[Artifact]:
    young = {artifact for artifact in manifests if ("artifacts", *artifact) not in old}
    return live | young


# How many parts of a name, from its beginning, name what is kept or removed as one.
_GROUP_PARTS = {"artifacts": 3, "attempts": 2, "checkpoints": 2, "logs": 3, "uploads": 2}


def _grouped(objects: Iterable[StoredObject]) -> dict[tuple[str, ...], list[StoredObject]]:
    groups: dict[tuple[str, ...], list[StoredObject]] = {}
    for item in objects:
        parts = item.name.split("/")
        count = _GROUP_PARTS.get(parts[0], len(parts))
        groups.setdefault(tuple(parts[:count]), []).append(item)
    return groups
