"""Records in, the few of them out that later texts are made of: gate answers, calibration, probes, examples."""

from dataclasses import dataclass, field

from tunesmith_api.settings import CONTEXT_LENGTH
from tunesmith_trainer.data.conversations import Example
from tunesmith_trainer.data.encode import Record
from tunesmith_trainer.data.probes import OWN_PROBES
from tunesmith_trainer.data.report import EXAMPLES
from tunesmith_trainer.data.split import Part
from tunesmith_trainer.data.texts import CALIBRATION_OWN_WINDOWS, GATE_MOST_WINDOWS, Sample


@dataclass(slots=True)
class Kept:
    """Bounded samples of what passes by; `chat` says whether any of it was a conversation."""

    gate: Sample
    calibration: Sample
    chat: bool = False
    examples: list[Record] = field(default_factory=list)
    asked: list[Example] = field(default_factory=list)

    def take(self, record: Record) -> None:
        """Keep of the record what is wanted of it.

        No words are kept twice for a row of several records: repeated text is easy to predict and its figures vary
        less than they should. A row that is seen more often by its dataset's weight is taken once as well.
        """
        example = record.example
        self.chat = self.chat or not isinstance(example, str)
        match record.origin.part:
            case Part.TRAIN:
                if not record.repeated:
                    self.calibration.add(record.text, len(record.ids))
                if len(self.examples) < EXAMPLES:
                    self.examples.append(record)
            case Part.GATE:
                # Tokens of a text are at most those of the row that it is part of.
                self.gate.add(record.said, sum(record.mask))
            case Part.EVAL:
                if len(self.asked) < OWN_PROBES:
                    self.asked.append(example)
            case _:
                pass


def kept(seed: int) -> Kept:
    """Empty samples of the sizes that the texts have."""
    return Kept(
        gate=Sample(GATE_MOST_WINDOWS * CONTEXT_LENGTH, seed),
        calibration=Sample(CALIBRATION_OWN_WINDOWS * CONTEXT_LENGTH, seed),
    )
