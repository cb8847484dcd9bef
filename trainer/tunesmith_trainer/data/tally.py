"""What became of the rows: counted, and those that cannot be used gathered by dataset and by what is wrong."""

import re
from collections import Counter
from dataclasses import dataclass, field

from tunesmith_api.failures import FAILURES, FailureClass
from tunesmith_trainer.data.rows import Place, Problem

# Problems that are kept with their place, and kinds of them; beyond it they are only counted, so that a broken file of
# a million rows does not become a report of a million lines.
KEPT_PROBLEMS = 100
_PLACES = 3
# Numbers that stand by themselves, such as a turn's or a byte's: two rows whose reasons differ in them alone are broken
# alike. One in quotes is the name of a column.
_NUMBER = re.compile(r"(?<![\w'\"-])\d+(?![\w'\"])")


@dataclass(slots=True)
class Alike:
    """Rows of one dataset that are broken alike: how many, and where the first of them stand."""

    dataset: int
    first: Problem
    count: int = 0
    places: list[Place] = field(default_factory=list)
    _same_words: bool = True
    _same_file: bool = True

    def add(self, problem: Problem) -> None:
        """One more row of this kind."""
        self.count += 1
        self._same_words = self._same_words and problem.reason == self.first.reason
        self._same_file = self._same_file and problem.place.file == self.first.place.file
        if len(self.places) < _PLACES:
            self.places.append(problem.place)

    def told(self, rows: int) -> str:
        """One sentence for all of them; `rows` is how many their dataset has."""
        if self.count == 1:
            return str(self.first)
        reason = self.first.reason if self._same_words else _NUMBER.sub("…", self.first.reason)
        more = "..." if self.count > len(self.places) else ""
        if self._same_file:
            numbers = ", ".join(filter(None, (*(str(place.number) for place in self.places), more)))
            where, file = f"{self.places[0].unit}s {numbers}", f"{self.first.place.file}: "
        else:
            where, file = "; ".join(filter(None, (*map(str, self.places), more))), ""
        return f"{file}{self.count} of {rows} rows: {reason} ({where})"

    def hint(self, rows: int) -> str:
        """What helps; one broken row among good ones is the row's fault, all of them are the settings'."""
        return (self.first.cure if self.count == rows else "") or FAILURES[FailureClass.DATASET_INVALID].hint


@dataclass(slots=True)
class Tally:
    """How many rows ended how, and where the first of each kind stand."""

    read: int = 0
    invalid: int = 0
    duplicates: int = 0
    formats: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    duplicate_places: list[Place] = field(default_factory=list)
    rows: Counter[int] = field(default_factory=Counter)
    _alike: dict[tuple[int, str], Alike] = field(default_factory=dict)

    @property
    def alike(self) -> tuple[Alike, ...]:
        """What is wrong with rows, in the order in which it was met first."""
        return tuple(self._alike.values())

    def see(self, dataset: int) -> None:
        """One more row was read of this dataset."""
        self.read += 1
        self.rows[dataset] += 1

    def refuse(self, dataset: int, problem: Problem) -> None:
        """One more row that cannot be used."""
        self.invalid += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)
        key = dataset, _NUMBER.sub("…", problem.reason)
        if key in self._alike or len(self._alike) < KEPT_PROBLEMS:
            self._alike.setdefault(key, Alike(dataset, problem)).add(problem)

    def repeat(self, place: Place) -> None:
        """One more row that was there before."""
        self.duplicates += 1
        if len(self.duplicate_places) < KEPT_PROBLEMS:
            self.duplicate_places.append(place)
