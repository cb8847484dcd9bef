"""Whether the watches still tell: what the API server is known to have must come by them too, within moments.

A connection that is silently dead kopf notices by itself (watching.py). A watcher that has ended and was not started
again (kopf issue 1276) nobody would notice: lists and the answers to own writes are compared with what it tells.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

Stream = tuple[str, str]
"""What one watch tells of: a resource, and the namespace where namespaces are watched one by one, else empty."""

# Far above the 90 seconds after which kopf takes a connection for dead.
DEAD_AFTER = timedelta(seconds=180)
# Of what came within a second the first is enough to know how long a watch has been behind.
_APART = timedelta(seconds=1)


@dataclass(slots=True)
class Freshness:
    """What is owed by each watch, as resourceVersions: a watch tells in their order."""

    namespaced: bool = False
    last_told: dict[str, datetime] = field(default_factory=dict)
    _told: dict[Stream, int] = field(default_factory=dict)
    _owed: defaultdict[Stream, deque[tuple[int, datetime]]] = field(default_factory=lambda: defaultdict(deque))
    _answered: datetime | None = None

    def told(self, resource: str, namespace: str, version: int, now: datetime) -> None:
        """A watch has told of a version."""
        stream = self._stream(resource, namespace)
        self.last_told[resource] = now
        self._told[stream] = max(version, self._told.get(stream, 0))
        owed = self._owed[stream]
        while owed and owed[0][0] <= self._told[stream]:
            owed.popleft()

    def known(self, resource: str, namespace: str, version: int, now: datetime) -> None:
        """The API server has this version: it has said so itself, in a list or in its answer to a write."""
        stream = self._stream(resource, namespace)
        owed = self._owed[stream]
        if version > self._told.get(stream, 0) and (not owed or now >= owed[-1][1] + _APART):
            owed.append((version, now))

    def answered(self, now: datetime) -> None:
        """The API server has answered: as long as it does not, no watch is to blame."""
        self._answered = now

    def behind(self, resource: str) -> timedelta:
        """For how long the watches of a resource have not told what there is; 0 where they have."""
        since = [owed[0][1] for (kind, _), owed in self._owed.items() if kind == resource and owed]
        if not since or self._answered is None:
            return timedelta()
        return max(self._answered - min(since), timedelta())

    def dead(self) -> tuple[str, ...]:
        """The resources whose watches are to be taken for dead."""
        return tuple(sorted({kind for kind, _ in self._owed if self.behind(kind) > DEAD_AFTER}))

    def _stream(self, resource: str, namespace: str) -> Stream:
        return resource, namespace if self.namespaced else ""
