"""Records in, the part's Parquet file out, a thousand rows in memory at a time."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tunesmith_trainer.data.encode import Record

_GROUP_ROWS = 1024


def schema() -> Any:
    """The columns of train, eval and gate: what every later stage reads."""
    import pyarrow as pa

    return pa.schema(
        [
            ("input_ids", pa.list_(pa.int32())),
            ("mask", pa.list_(pa.uint8())),
            ("messages", pa.string()),
            ("dataset", pa.int16()),
            ("line", pa.int64()),
            ("prompt_sha", pa.string()),
        ]
    )


def messages_json(record: Record) -> str:
    """The record's conversation as a JSON list of turns; a plain text as ``{"text": ...}``."""
    said = {"text": record.example} if isinstance(record.example, str) else list(record.example)
    return json.dumps(said, ensure_ascii=False)


class PartWriter:
    """One Parquet file that grows row by row and is whole when it is closed; its counters say what it has."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._schema = schema()
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[Record] = []
        self.rows = 0
        self.tokens = 0
        self.supervised = 0
        self.longest = 0

    def add(self, record: Record) -> None:
        self.rows += 1
        self.tokens += len(record.ids)
        self.supervised += sum(record.mask)
        self.longest = max(self.longest, len(record.ids))
        self._waiting.append(record)
        if len(self._waiting) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.table(_columns(self._waiting), schema=self._schema))
            self._waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()


def _columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    return {
        "input_ids": [record.ids for record in records],
        "mask": [record.mask for record in records],
        "messages": [messages_json(record) for record in records],
        "dataset": [record.origin.row.dataset for record in records],
        "line": [record.origin.row.place.number for record in records],
        "prompt_sha": [record.origin.row.prompt_sha for record in records],
    }
