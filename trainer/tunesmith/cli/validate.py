"""``tunesmith validate``: the manifest, and its sources where they can be reached; nothing is trained."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, TypeVar

import typer

from tunesmith.cli.errors import WRONG, exit_code, tell
from tunesmith.cli.notes import notes_on, notes_on_model
from tunesmith.cli.options import Manifest
from tunesmith.cli.rows import check_rows
from tunesmith.cli.terminal import terminal
from tunesmith.kubernetes_yaml import read_documents
from tunesmith.local.job import Wanted, source_access, store_location
from tunesmith.local.places import refuse_store
from tunesmith.manifest import ManifestInvalid, ManifestText, load_manifest, read_manifest, render
from tunesmith.problems import Problem
from tunesmith.resolve import Fetched, resolve_adapter, resolve_dataset, resolve_model
from tunesmith.resolve.uri import Scheme
from tunesmith.store import open_store
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.fields import Field, spell
from tunesmith_api.spec import Dataset, FineTuneJob
from tunesmith_api.stages import StoreLocation, failure_of

Json = Annotated[bool, typer.Option("--json", help="Write the problems as JSON.")]
Offline = Annotated[bool, typer.Option("--offline", help="Look at the manifest only, not at its sources.")]

# Sources that cannot be reached from here may well be reachable where the job runs, and the rows be checked there.
_ELSEWHERE = {
    FailureClass.SOURCE_UNAVAILABLE,
    FailureClass.ACCESS_DENIED,
    FailureClass.SECRET_MISSING,
    FailureClass.TOOLS_MISSING,
}
# What a source turned out to be can be wrong; all else (a full disk, a defect) is no fault of the manifest.
_WRONG = {
    FailureClass.SPEC_INVALID,
    FailureClass.SOURCE_ABSENT,
    FailureClass.MODEL_INVALID,
    FailureClass.DATASET_INVALID,
    FailureClass.DATASET_TOO_SMALL,
}
_Found = TypeVar("_Found")


def validate(manifest: Manifest, offline: Offline = False, as_json: Json = False) -> None:
    """Check the manifest, and its model and dataset where they can be reached; exit code 2 where something is wrong.

    Example: `tunesmith validate job.yaml`
    """
    looked, job = _Looked(), None
    try:
        text = read_manifest(manifest)
        job = load_manifest(text)
    except ManifestInvalid as error:
        if not as_json:
            tell(error, terminal())
        looked.problems += error.problems
    else:
        looked = _Looked(unchecked=[spell(place) for place in _places(job)]) if offline else _look(job, text)
        looked.notes += notes_on(job)
    if as_json:
        sys.stdout.write(json.dumps(looked.to_json_dict()) + "\n")
    elif job is not None:
        _tell(looked, job, text.name)
    if looked.failure is not None:
        tell(looked.failure, terminal(stderr=True))
    if looked.problems:
        raise typer.Exit(WRONG)
    if looked.failure is not None:
        raise typer.Exit(exit_code(looked.failure))


def problems_of_files(job: FineTuneJob, manifest: ManifestText) -> tuple[Problem, ...]:
    """What is wrong with the sources that are files of this machine; the others, and the store, are not looked at.

    Raises what keeps a check from its end.
    """
    looked = _look(job, manifest, f"{Scheme.FILE}://")
    if looked.failure is not None:
        raise looked.failure
    return tuple(looked.problems)


def _tell(looked: "_Looked", job: FineTuneJob, manifest: str) -> None:
    """For a person: what is wrong, what there is to say, and whether the manifest is valid."""
    console = terminal()
    if looked.problems:
        console.print(render(_each_hint_once(looked.problems), manifest), soft_wrap=True)
    for note in looked.notes:
        console.print(note, soft_wrap=True)
    if looked.valid:
        said = f"the manifest is valid; not checked: {', '.join(looked.unchecked)}"
        said = said if looked.unchecked else f"{job.metadata.name} is valid"
        console.print(f"{manifest}: {said}.", soft_wrap=True)


def _each_hint_once(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """What helps against several problems is said with the last of them."""
    last = {problem.right: at for at, problem in enumerate(problems)}
    return tuple(
        problem if last[problem.right] == at else replace(problem, right="") for at, problem in enumerate(problems)
    )


def vars_of(problem: object) -> dict[str, object]:
    """A problem as JSON."""
    return {name: getattr(problem, name) for name in ("path", "what", "right", "line")}


@dataclass(slots=True)
class _Looked:
    """What was found wrong, what there is to say beside it, and fields that could not be looked at from here.

    `lines` are the manifest's, by field; `failure` is what kept a check from its end and is no fault of the manifest.
    Only addresses that begin with `only` are looked at.
    """

    lines: dict[Field, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    failure: StageFailure | None = None
    only: str = ""

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong with what could be looked at."""
        return not self.problems and self.failure is None

    def to_json_dict(self) -> dict[str, object]:
        """What `validate --json` writes."""
        return {
            "valid": self.valid,
            "problems": [vars_of(problem) for problem in self.problems],
            "notes": self.notes,
            "notChecked": self.unchecked,
            "failure": None if self.failure is None else failure_of(self.failure).to_json_dict(),
        }

    def at(self, place: Field, uri: str, look: Callable[[], _Found]) -> _Found | None:
        """What `look` finds at a source, None where it is wrong or cannot be looked at from here."""
        if not uri.startswith(self.only):
            return None
        if uri.startswith(f"{Scheme.PVC}://"):
            self.notes.append(f"Not checked from here: {uri} is a claim of a cluster.")
            self.unchecked.append(spell(place))
            return None
        try:
            return look()
        except StageFailure as error:
            if error.failure in _WRONG:
                self.wrong(place, f"{error.failure.value}: {error.message}", error.hint)
            elif error.failure in _ELSEWHERE:
                self.notes.append(f"Not checked from here: {error.message}. {error.hint}")
                self.unchecked.append(spell(place))
            else:
                self.failure = self.failure or error
                self.unchecked.append(spell(place))
        return None

    def store(self, location: StoreLocation) -> None:
        """Whether the manifest's store can be one; a bucket is left to the job, which may have other credentials."""
        place: Field = ("spec", "store", "uri")
        if location.uri.startswith(f"{Scheme.S3}://"):
            self.notes.append(f"Not checked from here: the store {location.uri}.")
            self.unchecked.append(spell(place))
        else:
            self.at(place, location.uri, lambda: refuse_store(open_store(location)))

    def wrong(self, place: Field, what: str, right: str = "") -> None:
        """One more problem, with the line of the field or, where it is absent, of what holds it."""
        known = (self.lines.get(place[:end]) for end in range(len(place), 0, -1))
        line = next((line for line in known if line is not None), None)
        self.problems.append(Problem(spell(place), what, right, line))


def _datasets(job: FineTuneJob) -> dict[Field, Dataset]:
    datasets: dict[Field, Dataset] = {("spec", "datasets", at): each for at, each in enumerate(job.spec.datasets)}
    if job.spec.evaluation.dataset is not None:
        datasets["spec", "evaluation", "dataset"] = job.spec.evaluation.dataset
    return datasets


def _places(job: FineTuneJob) -> list[Field]:
    """The fields whose values name something outside of the manifest."""
    places: list[Field] = [] if job.spec.store is None else [("spec", "store", "uri")]
    return [*places, *job.spec.sources()]


def _look(job: FineTuneJob, manifest: ManifestText, only: str = "") -> _Looked:
    """Each source by itself: one that is away keeps nobody from seeing what is wrong with the others."""
    looked = _Looked(read_documents(manifest.text)[0].lines, only=only)
    access = source_access(manifest, store_location(job, Wanted(manifest)))
    if job.spec.store is not None and not only:
        looked.store(store_location(job, Wanted(manifest)))
    named = job.spec.model
    model = looked.at(("spec", "model", "source"), named.source, lambda: resolve_model(named, access))
    looked.notes += () if model is None else notes_on_model(job, model)
    if named.adapter is not None:
        looked.at(("spec", "model", "adapter"), named.adapter, lambda: resolve_adapter(named, access))
    fetched: dict[Field, Fetched] = {}
    for place, dataset in _datasets(job).items():
        found = looked.at((*place, "source"), dataset.source, lambda dataset=dataset: resolve_dataset(dataset, access))  # type: ignore[misc]
        if found is not None:
            fetched[place] = found
    if fetched:
        rows = looked.at(("spec", "datasets"), only, lambda: check_rows(job, model, fetched))
        for each in () if rows is None else rows.problems:
            place = (*each.place, "source") if len(each.place) > 2 else each.place  # noqa: PLR2004
            looked.wrong(place, each.what, each.right)
        looked.notes += () if rows is None else rows.notes
    return looked
