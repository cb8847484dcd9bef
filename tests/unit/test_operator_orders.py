"""From any state, with events late, lost, doubled or in any order, and killed at any write, a job comes to one end."""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.builders import a_plan, a_spec
from support.small_cluster import ROWS, Cluster, one_pass, settle
from tunesmith_api.failures import FailureClass
from tunesmith_api.status import Phase
from tunesmith_operator.world import JobState, World

TYPES = ("Q4_K_M", "Q8_0", "Q6_K")


class Orders(RuleBasedStateMachine):
    """Operators, users, the kubelet and the garbage collector take turns as Hypothesis likes."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(spec=a_spec(datasets=ROWS, quantizations=list(TYPES[:2])))
        self.seen: list[tuple[World, int]] = [(self.cluster.world(), 1)]
        self.lost: Counter[str] = Counter()
        self.failed = 0

    def _jobs(self, state: JobState) -> list[str]:
        return sorted(name for name, job in self.cluster.jobs.items() if job.state is state)

    @rule()
    def the_operator_passes(self) -> None:
        one_pass(self.cluster)

    @rule(writes=st.integers(0, 3))
    def the_operator_is_killed_between_two_writes(self, writes: int) -> None:
        one_pass(self.cluster, writes=writes)

    @rule()
    def a_second_operator_looks(self) -> None:
        self.seen = [*self.seen[-3:], (self.cluster.world(), self.cluster.version)]

    @rule(data=st.data())
    def a_second_operator_acts_on_what_it_saw_a_while_ago(self, data: Any) -> None:
        world, version = data.draw(st.sampled_from(self.seen))
        one_pass(self.cluster, world, version)

    @rule()
    def deletions_end(self) -> None:
        self.cluster.collect()

    @precondition(lambda self: self._jobs(JobState.PENDING))
    @rule(data=st.data())
    def a_pod_starts(self, data: Any) -> None:
        self.cluster.start(data.draw(st.sampled_from(self._jobs(JobState.PENDING))))

    @precondition(lambda self: self._jobs(JobState.RUNNING))
    @rule(data=st.data())
    def a_pod_ends_well(self, data: Any) -> None:
        self.cluster.complete(data.draw(st.sampled_from(self._jobs(JobState.RUNNING))))

    @precondition(lambda self: self._jobs(JobState.RUNNING))
    @rule(data=st.data())
    def a_result_is_lost(self, data: Any) -> None:
        name = data.draw(st.sampled_from(self._jobs(JobState.RUNNING)))
        self.lost[name] += 1
        self.cluster.complete(name, message="")

    @precondition(lambda self: self._jobs(JobState.RUNNING))
    @rule(data=st.data(), failure=st.sampled_from([FailureClass.INTERNAL, FailureClass.OUT_OF_MEMORY_GPU]))
    def a_stage_fails(self, data: Any, failure: FailureClass) -> None:
        self.failed += 1
        self.cluster.fail(data.draw(st.sampled_from(self._jobs(JobState.RUNNING))), failure)

    @rule(suspend=st.booleans())
    def a_user_suspends_or_resumes(self, suspend: bool) -> None:
        self.cluster.edit(suspend=suspend)

    @rule(types=st.lists(st.sampled_from(TYPES), min_size=1, unique=True))
    def a_user_chooses_other_quantizations(self, types: list[str]) -> None:
        self.cluster.edit(quantizations=types)

    @rule(value=st.integers(1, 3))
    def a_user_retries(self, value: int) -> None:
        self.cluster.retry = str(value)

    @invariant()
    def no_stage_works_twice_at_once(self) -> None:
        live = Counter(job.stage for job in self.cluster.jobs.values() if job.state is JobState.RUNNING)
        assert not [stage for stage, count in live.items() if count > 1 and stage != "publish"]

    @invariant()
    def what_is_done_stays_done(self) -> None:
        """A recorded training is never begun again, whatever else happens: nothing here damages it."""
        trained = [each for each in self.cluster.status.stages if each.name == "train" and each.state == "Done"]
        if trained:
            running = [job for job in self.cluster.jobs.values() if job.stage == "train" and not job.ended]
            assert not [job for job in running if not job.deleting and job.turn > trained[0].turn]

    def teardown(self) -> None:
        """Left in peace and asked again, it comes to the end that an undisturbed job comes to."""
        self.cluster.edit(suspend=False)
        settle(self.cluster)
        self.cluster.retry = "the last time"
        status = settle(self.cluster)
        assert status.phase is Phase.COMPLETE, (status.phase, status.message)
        wanted = {stage.name: stage.recorded_keys().outputs for stage in a_plan(self.cluster.spec).stages}
        assert {stage.name: stage.keys.outputs for stage in status.stages} == wanted
        assert settle(self.cluster) == status


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
