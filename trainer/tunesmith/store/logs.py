"""Logs of stages: what a stage wrote goes in when it ends, well or not, and can be read by whoever asks why."""

from datetime import datetime
from pathlib import Path

from tunesmith.store.artifacts import checked_namespace
from tunesmith.store.protocol import Store, StoredObject

# The end of a log says why a stage failed; more than this is a defect of whatever writes it.
_MOST_BYTES = 16 << 20


def put_log(store: Store, namespace: str, at: tuple[str, str, str], log: Path) -> str:
    """Store a log at ``logs/<stage>/<key>/<attempt>.log`` (`at` is stage, key, attempt); its name in the store.

    Of a log longer than 16 MiB the end is kept. The log may still be growing: what is there now is stored.
    """
    stage, key, attempt = at
    name = f"{checked_namespace(namespace)}/logs/{stage}/{key}/{attempt}.log"
    store.put_bytes(_end_of(log), name)
    return name


def list_logs(store: Store, namespace: str, stage: str, key: str) -> list[str]:
    """The names of the logs of one stage and key, oldest first."""
    return [item.name for item in stored_logs(store, namespace, stage, key)]


def stored_logs(store: Store, namespace: str, stage: str, key: str) -> list[StoredObject]:
    """The same with what the store knows of each."""
    found = store.list(f"{checked_namespace(namespace)}/logs/{stage}/{key}")
    return sorted(found, key=age)


def age(log: StoredObject) -> tuple[datetime, str]:
    """What logs are sorted by: of two that were stored at one moment the names decide."""
    return log.modified, log.name


def _end_of(log: Path) -> bytes:
    with log.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _MOST_BYTES))
        return stream.read()
