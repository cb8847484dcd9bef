"""Which files of a source are a dataset's rows: by what the manifest says, the card's configs, or their names. Pure."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

ROW_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
# Files of a repository that are no rows although they end like some.
_NOT_ROWS = {"dataset_infos.json", "dataset_info.json", "state.json", "config.json", "package.json"}


def row_files(
    where: str, files: Sequence[ResolvedFile], choice: tuple[str | None, str | None], card: str | None
) -> tuple[ResolvedFile, ...]:
    """The files with rows of (config, split) `choice`, sorted by path; `DatasetInvalid` names what is there instead.

    `card` is the text of README.md, whose front matter may say which files belong to which config and split
    (Hugging Face hub documentation, "Manual configuration").
    """
    config, split = choice
    found = tuple(file for file in files if file.path.endswith(ROW_FILES) and file.path.split("/")[-1] not in _NOT_ROWS)
    if not found:
        names = ", ".join(file.path for file in files[:10]) or "nothing"
        raise StageFailure(
            FailureClass.DATASET_INVALID,
            f"{where} has no rows to read: it holds {names}",
            f"Rows are read from {', '.join(ROW_FILES)}.",
        )
    patterns = _patterns(front_matter(card), config, split or "train")
    if patterns:
        chosen = tuple(file for file in found if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns))
    else:
        chosen = _by_name(found, config, split)
    if not chosen:
        names = ", ".join(file.path for file in found[:10])
        raise StageFailure(
            FailureClass.DATASET_INVALID,
            f"{where} has no file for config {config or 'default'!r} and split {split or 'train'!r}; it has {names}",
            "Set datasets[].config and datasets[].split to what is there.",
        )
    return tuple(sorted(chosen, key=lambda file: file.path))


def front_matter(card: str | None) -> Mapping[str, Any]:
    """The facts at the head of a README.md, between two lines of dashes; empty where there are none."""
    if card is None or not card.startswith("---"):
        return {}
    try:
        read = yaml.safe_load(card.split("---", 2)[1])
    except (yaml.YAMLError, IndexError):
        return {}
    return read if isinstance(read, dict) else {}


def _patterns(card: Mapping[str, Any], config: str | None, split: str) -> tuple[str, ...]:
    for entry in card.get("configs") or ():
        if config is not None and entry.get("config_name") != config:
            continue
        files = entry.get("data_files")
        if isinstance(files, str):
            return (files,)
        for part in files or ():
            if isinstance(part, str):
                return tuple(files)
            if part.get("split") == split:
                path = part.get("path")
                return tuple(path) if isinstance(path, list) else (str(path),)
    return ()


def _by_name(files: Sequence[ResolvedFile], config: str | None, split: str | None) -> tuple[ResolvedFile, ...]:
    if config is not None:
        files = [file for file in files if config in file.path.split("/")[:-1] or file.path.startswith(config)]
    named = tuple(file for file in files if (split or "train") in file.path.split("/")[-1] or f"/{split}/" in file.path)
    if named:
        return named
    # Without a split asked for, files that name none of the usual splits are all rows.
    others = tuple(file for file in files if not any(word in file.path for word in ("test", "valid", "dev")))
    return () if split is not None else others
