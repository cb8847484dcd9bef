"""What is wrong with a manifest, as a person reads it: the place, what is there, and what would be right."""

from dataclasses import dataclass

from tunesmith_api.failures import FailureClass, StageFailure


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (``spec.training.learningRate``), what, and what would be right ("": it is said).

    `line` is the line of the YAML, counted from 1, where it is known.
    """

    path: str
    what: str
    right: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = (
            self.path if self.line is None else f"{self.path} (line {self.line})" if self.path else f"line {self.line}"
        )
        sentence = f"{self.what}; {self.right}" if self.right else self.what
        return f"{place}: {sentence}" if place else sentence


class ManifestInvalid(StageFailure):
    """A manifest that cannot be used, with everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: list[Problem], source: str = "", hint: str | None = None) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.path)))
        self.source = source
        if hint is None and not any(problem.path for problem in problems):
            hint = "Correct the file."
        super().__init__(FailureClass.SPEC_INVALID, render(self.problems, source), hint)


def render(problems: tuple[Problem, ...], source: str = "") -> str:
    """All problems, one a line, under a head line that names the file."""
    name = source or "the manifest"
    if len(problems) == 1:
        return f"{name}: {problems[0]}"
    return "\n".join([f"{name}: {len(problems)} problems", *(f"  {problem}" for problem in problems)])
