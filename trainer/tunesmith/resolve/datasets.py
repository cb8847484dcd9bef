"""Which files of a source are a dataset's rows: by what the manifest says, the card's configs, or their names. Pure."""

import fnmatch
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.resolved import ResolvedFile

ROW_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
# Files of a repository that are no rows although they end like some.
_NOT_ROWS = {"dataset_infos.json", "dataset_info.json", "state.json", "config.json", "package.json"}
# The words that name a split in a path, and what stands between words (Hugging Face hub documentation, "File names and
# splits"; datasets, data_files.py).
_TRAIN, _NONE = "train", ""
_WORDS = {
    _TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_BETWEEN = r"[-._ 0-9/]"


def row_files(
    where: str, files: Sequence[ResolvedFile], choice: tuple[str | None, str | None], card: str | None
) -> tuple[ResolvedFile, ...]:
    """The files with rows of (config, split) `choice`, sorted by path; `DatasetInvalid` names what is there instead.

    `card` is the text of README.md, whose front matter may say which files belong to which config and split
    (Hugging Face hub documentation, "Manual configuration"). Without a split it is train, or the only one.
    """
    config, split = choice
    found = tuple(file for file in files if _has_rows(file.path))
    if not found:
        names = ", ".join(file.path for file in files[:10]) or "nothing"
        raise StageFailure(
            FailureClass.DATASET_INVALID,
            f"{where} has no rows to read: it holds {names}",
            f"Rows are read from {', '.join(ROW_FILES)}.",
        )
    patterns = _patterns(front_matter(card), config, split)
    if patterns is not None:
        chosen = tuple(file for file in found if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns))
    else:
        chosen = _by_name(found, config, split)
    if not chosen:
        names = ", ".join(file.path for file in found[:10])
        raise StageFailure(
            FailureClass.DATASET_INVALID,
            f"{where} has no file for config {config or 'default'!r} and split {split or _TRAIN!r}; it has {names}",
            "Leave out datasets[].config and datasets[].split or set them to what is there, or name one file.",
        )
    return tuple(sorted(chosen, key=lambda file: file.path))


def _has_rows(path: str) -> bool:
    return path.lower().endswith(ROW_FILES) and path.rsplit("/", maxsplit=1)[-1] not in _NOT_ROWS


def front_matter(card: str | None) -> Mapping[str, Any]:
    """The facts at the head of a README.md, between two lines of dashes; empty where there are none."""
    if card is None or not card.startswith("---"):
        return {}
    try:
        read = yaml.safe_load(card.split("---", 2)[1])
    except (yaml.YAMLError, IndexError):
        return {}
    return read if isinstance(read, dict) else {}


def _patterns(card: Mapping[str, Any], config: str | None, split: str | None) -> tuple[str, ...] | None:
    """The paths that a card names for a config (default: its first) and a split; None where it names no files."""
    configs = card.get("configs")
    for entry in configs if isinstance(configs, list) else ():
        if not isinstance(entry, dict) or (config is not None and entry.get("config_name") != config):
            continue
        files = entry.get("data_files")
        if isinstance(files, str):
            return (files,)
        if not isinstance(files, list) or not files:
            continue
        parts = files
        if all(isinstance(part, str) for part in parts):
            return tuple(parts)
        named = [(str(part.get("split")), part.get("path")) for part in parts if isinstance(part, dict)]
        wanted = split or _default_of({name for name, _ in named})
        paths = [path for name, path in named if name == wanted]
        return tuple(str(one) for path in paths for one in (path if isinstance(path, list) else [path]))
    return None


def _by_name(files: Sequence[ResolvedFile], config: str | None, split: str | None) -> tuple[ResolvedFile, ...]:
    if config is not None:
        files = [file for file in files if config in file.path.split("/")[:-1] or file.path.startswith(config)]
    if split is not None:
        return tuple(file for file in files if _names(file.path, split))
    by_split: dict[str, list[ResolvedFile]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.path), []).append(file)
    return tuple(by_split.get(_default_of(by_split.keys()), ()))


def _default_of(splits: Collection[str]) -> str:
    """Of these splits train, else what belongs to none (all rows, beside some to test with), else the only one."""
    if _TRAIN in splits:
        return _TRAIN
    return next(iter(splits)) if len(splits) == 1 else _NONE


def _split_of(path: str) -> str:
    """The split that a path names: by a folder called so, else by a word of the file's name, else by one of a folder's.

    ``train/test-a.csv`` is train; ``training-data/eval.jsonl`` is not, or held-out rows would be trained on.
    """
    *folders, name = path.lower().split("/")
    nearest = folders[::-1]
    words = [*nearest, *re.split(_BETWEEN, name), *(word for folder in nearest for word in re.split(_BETWEEN, folder))]
    return next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), _NONE)


def _names(path: str, split: str) -> bool:
    """Whether a path is of a split: one that there is a word for, or any other as a whole word of it."""
    if split in _WORDS:
        return _split_of(path) == split
    return re.search(f"(?:^|{_BETWEEN}){re.escape(split)}(?:$|{_BETWEEN})", path, re.IGNORECASE) is not None
