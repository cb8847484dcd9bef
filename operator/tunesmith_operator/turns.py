"""Whose turn it is: each job at most once in the queue and at most once in work, those without any Job first."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from tunesmith_operator.cache import Key


@dataclass(slots=True)
class Turns:
    """A queue that forgets doubles: what changes while a job is in work gives it one more turn, however often."""

    _waiting: set[Key] = field(default_factory=set)
    _working: set[Key] = field(default_factory=set)
    _first: deque[Key] = field(default_factory=deque)
    _others: deque[Key] = field(default_factory=deque)
    _alarms: dict[Key, tuple[float, asyncio.TimerHandle]] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: Key, *, first: bool = False) -> None:
        """Its turn will come; `first` before those that have been begun (a burst of new jobs is answered at once)."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            (self._first if first else self._others).append(key)
            self._changed.set()

    def add_at(self, key: Key, moment: datetime, now: datetime) -> None:
        """Its turn will come then, if it does not come before; a later alarm gives way to an earlier one."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max((moment - now).total_seconds(), 0.0)
        known = self._alarms.get(key)
        if known is not None:
            if known[0] <= at:
                return
            known[1].cancel()
        self._alarms[key] = (at, loop.call_at(at, self._ring, key))

    def _ring(self, key: Key) -> None:
        self._alarms.pop(key, None)
        self.add(key)

    async def take(self) -> Key:
        """The next job; whoever takes it says `done` at the end."""
        while not (self._first or self._others):
            self._changed.clear()
            await self._changed.wait()
        key = self._first.popleft() if self._first else self._others.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """It is out of work; what has changed meanwhile gives it another turn."""
        self._working.discard(key)
        if key in self._waiting:
            self._others.append(key)
            self._changed.set()

    def __len__(self) -> int:
        return len(self._waiting)
