"""Whether a checkpoint folder holds all that training goes on from, and none of it cut short; read without torch."""

import json
import struct
import zipfile
from pathlib import Path

STATE = "trainer_state.json"
# Without optimizer or scheduler a resumed run diverges, without the RNG state it drifts, both silently (measured).
PICKLED = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
LOG = "log.jsonl"
BEST = "best"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files: an adapter's one, or the full model's, sharded or not."""
    return sorted(folder.glob("*.safetensors"))


def problems(folder: Path, step: int) -> list[str]:
    """What is wrong with the checkpoint of `step`, in words; empty where it is whole. Takes milliseconds."""
    found = [f"{name} is missing" for name in (STATE, *PICKLED) if not (folder / name).is_file()]
    if found:
        return found
    weights = weight_files(folder)
    if not weights:
        return ["no safetensors file"]
    found += [f"{path.name} is damaged" for path in weights if not safetensors_whole(path)]
    found += [f"{name} is damaged" for name in PICKLED if not _zip_whole(folder / name)]
    stored = _stored_step(folder / STATE)
    if stored != step:
        found.append(f"{STATE} is of step {stored}, not of {step}")
    return found


def safetensors_whole(path: Path) -> bool:
    """Whether the header can be read and the file is as long as it says (format: 8 bytes length, JSON, data)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:  # noqa: PLR2004  # the format's own length field
            return False
        (length,) = struct.unpack("<Q", prefix)
        if length > size - 8:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected: int = 8 + length + max(ends, default=0)
    return size == expected


def _zip_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def _stored_step(path: Path) -> int | None:
    try:
        step = json.loads(path.read_bytes())["global_step"]
    except (OSError, ValueError, KeyError):
        return None
    return step if isinstance(step, int) else None
