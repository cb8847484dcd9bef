"""Everything an engine has to know to train, gathered from request, inputs and machine."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.settings import TrainSettings
from tunesmith_trainer.engines.adapter import AdapterShape
from tunesmith_trainer.engines.batching import Batching
from tunesmith_trainer.engines.precision import Device, Precision
from tunesmith_trainer.engines.rows import Rows
from tunesmith_trainer.engines.what_fits import Room


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training: what is trained (`base`, `start_adapter`), on what (`train`, `evaluation`), how and where.

    `adapter` is None where all weights are trained. `total_steps` are optimizer steps; `pad_id` is the id that fills
    short rows up; `packing` lays several rows out in one sequence (only where that is exact).
    `attention` is transformers' name of the implementation, `room` what there is for rows.
    """

    settings: TrainSettings
    base: Path
    adapter: AdapterShape | None
    start_adapter: Path | None
    train: Rows
    evaluation: Rows
    pad_id: int
    total_steps: int
    packing: bool
    attention: str
    device: Device
    precision: Precision
    batching: Batching
    room: Room
    save_every: int | None
    scratch: Path
