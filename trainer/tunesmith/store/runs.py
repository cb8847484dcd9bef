"""Who needs what: a run goes in with the keys of its plan, and keeps them from gc as long as it is refreshed."""

from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from tunesmith.store.artifacts import checked_namespace
from tunesmith.store.protocol import NotFoundInStoreError, Store
from tunesmith_api.schema import Recorded

# Contract 4 of the design: a run that nobody refreshed for this long keeps nothing.
RUN_EXPIRES_AFTER = timedelta(days=30)


class RunKey(Recorded):
    """One artifact that a run makes or reads."""

    kind: str
    key: str


class Run(Recorded):
    """The record of one job object at ``runs/<uid>.json``: what it needs, and when it was last alive."""

    uid: str
    job: str
    keys: tuple[RunKey, ...] = ()
    uploads: tuple[str, ...] = ()
    refreshed: datetime

    def expired(self, now: datetime) -> bool:
        return now - self.refreshed > RUN_EXPIRES_AFTER


def refresh_run(store: Store, namespace: str, run: Run) -> Run:
    """Write a run's record: whoever begins a job with all keys of its plan, then every stage with those that it knows.

    Keys that an earlier call wrote stay; the record's time becomes that of `run`. Two stages at once may each write
    over the other's: what both add is in the record since the job began.
    """
    name = f"{checked_namespace(namespace)}/runs/{run.uid}.json"
    earlier = read_run(store, namespace, run.uid)
    if earlier is not None:
        keys = dict.fromkeys((*earlier.keys, *run.keys))
        uploads = dict.fromkeys((*earlier.uploads, *run.uploads))
        run = run.model_copy(update={"keys": tuple(keys), "uploads": tuple(uploads)})
    store.put_bytes(run.model_dump_json(by_alias=True).encode(), name)
    return run


def read_run(store: Store, namespace: str, uid: str) -> Run | None:
    """The record of one job object, None where nobody has written one that can be read."""
    return _read(store, f"{checked_namespace(namespace)}/runs/{uid}.json")


def new_run(uid: str, job: str, keys: list[tuple[str, str]], now: datetime | None = None) -> Run:
    """A run's record as of now; `keys` are pairs of kind and key."""
    refreshed = (now or datetime.now(UTC)).replace(microsecond=0)
    return Run(uid=uid, job=job, keys=tuple(RunKey(kind=kind, key=key) for kind, key in keys), refreshed=refreshed)


def read_runs(store: Store, namespace: str) -> dict[str, Run]:
    """All readable runs by object name."""
    folder = f"{checked_namespace(namespace)}/runs"
    found = {item.name: _read(store, item.name) for item in store.list(folder)}
    return {name: run for name, run in found.items() if run is not None}


def _read(store: Store, name: str) -> Run | None:
    try:
        return Run.model_validate_json(store.read_bytes(name))
    except (NotFoundInStoreError, ValidationError):
        return None
