"""What trains: two engines behind one small interface; both take a `TrainingJob` and give a model and its trainer."""

from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith_api.training import Engine as EngineName
from tunesmith_trainer.engines.collate import Collator
from tunesmith_trainer.engines.job import TrainingJob


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to train, and a tokenizer where the engine's trainer class insists on one."""

    model: Any
    tokenizer: Any = None


class Engine(Protocol):
    """The seam between the stage and the libraries that train."""

    @property
    def name(self) -> EngineName:
        """What the spec calls it."""

    def import_libraries(self) -> None:
        """Import what has to be imported before anything else of the stack."""

    def load(self, job: TrainingJob) -> Loaded:
        """The base model in the job's precision, with its fresh or start adapter, ready to train."""

    def trainer(self, job: TrainingJob, loaded: Loaded, dataset: Any) -> Any:
        """A trainer of the class that `stepping.trainer_class` makes, with its collator and without our callbacks."""

    def evaluation_collator(self, job: TrainingJob, loaded: Loaded) -> Collator:
        """How held-out rows are laid out for this model."""


def engine_of(name: EngineName) -> Engine:
    """The engine called `name`; `Auto` is resolved before a stage sees it."""
    from tunesmith_trainer.engines.transformers_engine import TransformersEngine
    from tunesmith_trainer.engines.unsloth_engine import UnslothEngine

    return UnslothEngine() if name is EngineName.UNSLOTH else TransformersEngine()
