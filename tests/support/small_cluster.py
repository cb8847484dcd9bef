"""A Kubernetes in memory with one job, its Jobs and their pods: the fast double of tests/cluster, for all orders.

It keeps what the operator relies on: names are unique, deletions take a UID and, in the foreground, a while, a status
write with an old resourceVersion is refused, and the Job controller never starts a second pod beside a first.
"""

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from support.builders import a_spec, resolved
from tunesmith_api.failures import FAILURES, FailureClass, StageFailure
from tunesmith_api.keys import canonical_json
from tunesmith_api.progress import ProgressReport
from tunesmith_api.resolved import brief
from tunesmith_api.spec import JobSpec
from tunesmith_api.stages import ArtifactReference, Stage, StageResult, failure_of
from tunesmith_api.status import JobStatus
from tunesmith_operator.building import Builder
from tunesmith_operator.decide import Action, CreateJob, Decision, DeleteJob, decide
from tunesmith_operator.excerpts import stage_job_of
from tunesmith_operator.fold import Rules
from tunesmith_operator.loop import status_body
from tunesmith_operator.settings import OperatorSettings
from tunesmith_operator.world import Ended, Heard, JobState, StageJob, StagePod, World

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Conflict(Exception):
    """The API server's 409."""


SETTINGS = OperatorSettings.model_validate({"store": {"uri": "s3://bucket"}})
RULES = Rules(SETTINGS, Builder(SETTINGS).job)
# What a laptop alone has, a cluster refuses.
ROWS = [{"source": "s3://bucket/rows.jsonl"}]


@dataclass
class Cluster:
    """The API server, the Job controller and the kubelet.

    `created` counts the Jobs that were made by name and turn, `made` names the stage of each, `answered` are those that
    left a result that nothing has asked to go: made once more, they would do again what is done.
    """

    spec: JobSpec = field(default_factory=lambda: a_spec(datasets=ROWS))
    status: JobStatus = field(default_factory=JobStatus)
    generation: int = 1
    version: int = 1
    retry: str = ""
    now: datetime = NOON
    jobs: dict[str, StageJob] = field(default_factory=dict)
    created: "Counter[tuple[str, int]]" = field(default_factory=Counter)
    made: list[str] = field(default_factory=list)
    answered: set[tuple[str, int]] = field(default_factory=set)
    present: tuple[str, ...] = ()
    alive: bool = True
    _uids: "itertools.count[int]" = field(default_factory=itertools.count)

    def world(self) -> World:
        """What an operator sees that sees everything."""
        return World(
            name="job",
            namespace="team",
            uid="uid-of-the-job",
            generation=self.generation,
            now=self.now,
            spec=self.spec,
            status=self.status,
            retry=self.retry,
            jobs=dict(self.jobs),
        )

    def edit(self, **changes: Any) -> None:
        """A user edits the spec."""
        self.spec = JobSpec.model_validate(
            self.spec.model_dump(mode="json", by_alias=True, exclude_unset=True) | changes
        )
        self.generation += 1

    # What the operator does.

    def act(self, action: Action) -> None:
        """One write; `Conflict` as the API server says it."""
        if isinstance(action, CreateJob):
            self._create(action)
        elif isinstance(action, DeleteJob):
            self._delete(action)
        else:
            self.alive = False

    def _delete(self, action: DeleteJob) -> None:
        job = self.jobs.get(action.name)
        if job is None:
            return
        if (job.uid, job.version) != (action.uid, action.version):
            raise Conflict(action.name)
        self._change(action.name, deleting=True)

    def _change(self, name: str, **changes: Any) -> None:
        job = self.jobs[name]
        self.jobs[name] = replace(job, version=job.version + 1, **changes)

    def _create(self, action: CreateJob) -> None:
        body = json.loads(json.dumps(action.job))
        name = body["metadata"]["name"]
        if name in self.jobs:
            raise Conflict(name)
        uid = f"job-{next(self._uids)}"
        body["metadata"] |= {"uid": uid, "creationTimestamp": self.now.isoformat(), "resourceVersion": "1"}
        job = stage_job_of(body)
        made = (name, job.turn)
        assert made not in self.answered, f"{made} is done already"
        self.created[made] += 1
        self.made.append(job.stage)
        self.jobs[name] = job

    def write(self, status: JobStatus, version: int) -> None:
        """The status write."""
        if version != self.version:
            raise Conflict(str(version))
        patch = json.loads(json.dumps(status_body(status, self.status), default=str))
        written = JobStatus.model_validate(_merged(self.status.to_json_dict(), patch))
        if written != self.status:
            self.status = written
            self.version += 1

    # What Kubernetes and the stages do.

    def start(self, name: str) -> None:
        """The Job's pod begins to work."""
        job = self.jobs[name]
        pod = StagePod(name=f"{name}-pod", uid=job.uid, created=self.now, started=self.now)
        self._change(name, state=JobState.RUNNING, started=job.started or self.now, pods=(pod,))

    def tell(self, name: str, percent: int, **metrics: str) -> None:
        """The running pod says how far it is."""
        [pod] = self.jobs[name].pods
        heard = Heard(ProgressReport(name, percent, None, metrics), self.now)
        self.jobs[name] = replace(self.jobs[name], pods=(replace(pod, heard=heard),))

    def vanish(self, name: str) -> None:
        """It is gone, by whomever, and its pods with it."""
        del self.jobs[name]

    def complete(self, name: str, message: str | None = None) -> None:
        """The pod ends well, with its result or with another message."""
        job = self.jobs[name]
        said = result_text(job.stage, self.spec, self.present) if message is None else message
        if message is None and not job.deleting:
            self.answered.add((name, job.turn))
        self._end(name, Ended(0, "Completed", said, self.now, self.now), JobState.COMPLETE)

    def fail(self, name: str, failure: FailureClass, artifact: ArtifactReference | None = None) -> None:
        """The pod ends with a classified failure that the Job's failure policy does not try again."""
        said = failed_text(self.jobs[name].stage, failure, artifact)
        ended = Ended(FAILURES[failure].exit_code, "Error", said, self.now, self.now)
        self._end(name, ended, JobState.FAILED)

    def kill(self, name: str) -> None:
        """The kernel kills it for its memory limit."""
        self._end(name, Ended(137, "OOMKilled", "", self.now, self.now), JobState.FAILED)

    def evict(self, name: str) -> None:
        """Its pod is taken away, and its Job makes another."""
        self._change(name, state=JobState.PENDING, pods=())

    def still_running(self, name: str) -> None:
        """Its pod has ended, and the Job controller has not yet come to it."""
        self._change(name, state=JobState.RUNNING, finished=None)

    def collect(self) -> None:
        """Foreground deletions come to their end."""
        self.jobs = {name: job for name, job in self.jobs.items() if not job.deleting}

    def _end(self, name: str, ended: Ended, state: JobState) -> None:
        job = self.jobs[name]
        [began] = [pod.started for pod in job.pods] or [self.now]
        ended = replace(ended, started=began)
        pod = StagePod(name=f"{name}-pod", uid=job.uid, created=job.created, started=began, ended=ended)
        self._change(name, state=state, started=began, finished=self.now, pods=(pod,))


def _merged(target: Any, patch: Any) -> Any:
    """What the API server makes of a merge patch (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    kept = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        kept[name] = _merged(kept.get(name), value)
    return {name: value for name, value in kept.items() if value is not None}


def result_text(stage_name: str, spec: JobSpec, present: tuple[str, ...] = ()) -> str:
    """The termination message of a stage that has ended well."""
    stage = Stage(stage_name.partition("-")[0])
    figures: dict[str, Any] = {}
    if stage is Stage.PREPARE:
        figures = {"resolved": brief(resolved(spec))} | ({"present": list(present)} if present else {})
    if stage is Stage.QUANTIZE:
        figures = {"bytes": 1_000, "sha256": "0" * 64, "perplexityIncrease": 0.1, "score": 0.5}
    if stage is Stage.PUBLISH:
        verdicts = dict.fromkeys(spec.quantizations, "Passed")
        figures = {"verdict": "Passed", "onFailure": "Withhold", "passed": len(verdicts), "files": len(verdicts)}
        figures |= {"verdicts": verdicts}
    return StageResult(stage=stage, figures=figures).model_dump_json(by_alias=True, exclude_none=True)


def withheld_text() -> str:
    """The termination message of publish where a gate has failed, so that the file is withheld."""
    figures = {"verdict": "Failed", "onFailure": "Withhold", "failedGates": "Q8_0: maxPerplexityIncrease"}
    return StageResult(stage=Stage.PUBLISH, figures=figures).model_dump_json(by_alias=True, exclude_none=True)


def failed_text(stage_name: str, failure: FailureClass, artifact: ArtifactReference | None = None) -> str:
    """The termination message of a stage that has failed."""
    stage = Stage(stage_name.partition("-")[0])
    about = None if artifact is None else (artifact.kind.value, artifact.key)
    told = failure_of(StageFailure(failure, "it failed", artifact=about), stage)
    return StageResult(stage=stage, failure=told).model_dump_json(by_alias=True)


def rules_of(changes: dict[str, Any]) -> Rules:
    """Of an operator that is set otherwise."""
    changed = OperatorSettings.model_validate(SETTINGS.model_dump() | changes)
    return Rules(changed, Builder(changed).job)


def one_pass(
    cluster: Cluster, seen: World | None = None, version: int | None = None, writes: int = 1_000, rules: Rules = RULES
) -> Decision:
    """An operator's pass over what it sees, cut off after so many writes (the status is the last)."""
    version = cluster.version if version is None else version
    decision = decide(seen or cluster.world(), rules)
    steps = [lambda each=action: cluster.act(each) for action in decision.actions]
    steps.append(lambda: cluster.write(decision.status, version))
    for step in steps[:writes]:
        try:
            step()
        except Conflict:
            continue
    return decision


def settle(cluster: Cluster, passes: int = 200) -> JobStatus:
    """Everything goes well from here, until nothing changes any more."""
    for _ in range(passes):
        before = (cluster.version, canonical_json(sorted(cluster.jobs)), [j.state for j in cluster.jobs.values()])
        one_pass(cluster)
        cluster.collect()
        cluster.now += timedelta(seconds=1)
        for name, job in list(cluster.jobs.items()):
            if job.state is JobState.PENDING:
                cluster.start(name)
            elif job.state is JobState.RUNNING:
                cluster.complete(name)
        after = (cluster.version, canonical_json(sorted(cluster.jobs)), [j.state for j in cluster.jobs.values()])
        if before == after:
            return cluster.status
    raise AssertionError("it never comes to rest")


def job_of(cluster: Cluster, stage: str) -> str:
    """The name of a stage's Job."""
    return next(name for name, job in cluster.jobs.items() if job.stage == stage)


def until(cluster: Cluster, stage: str) -> None:
    """Everything goes well until that stage works."""
    for _ in range(50):
        one_pass(cluster)
        cluster.collect()
        for name, job in list(cluster.jobs.items()):
            if job.state is JobState.PENDING:
                cluster.start(name)
            elif job.state is JobState.RUNNING and job.stage != stage:
                cluster.complete(name)
        if any(job.stage == stage and job.state is JobState.RUNNING for job in cluster.jobs.values()):
            return
    raise AssertionError(stage)
