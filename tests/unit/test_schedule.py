"""Which stages start next follows from the plan and what is done, nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from support.builders import a_plan, a_spec
from tunesmith_api.schedule import Room, maker, ready
from tunesmith_api.stages import ArtifactReference, Kind

PLAN = a_plan(a_spec())


def started(done: set[str], running: set[str], limit: int = 9) -> list[str]:
    return [stage.name for stage in ready(PLAN, done, running, Room(limit))]


def test_a_new_job_starts_with_prepare() -> None:
    """Everything else needs it."""
    assert started(set(), set()) == ["prepare"]


def test_after_convert_all_measuring_starts_side_by_side() -> None:
    """As far as the limit goes, in the plan's order."""
    done = {"prepare", "train", "convert"}

    assert started(done, set()) == ["imatrix", "baseline", "evaluate"]
    assert started(done, set(), limit=2) == ["imatrix", "baseline"]
    assert started(done, {"imatrix", "baseline"}, limit=2) == []


def test_what_does_not_fit_into_memory_together_runs_one_after_the_other() -> None:
    """Two would read the model from disk again and again; what is small runs beside, and alone anything is tried."""
    done, needs = {"prepare", "train", "convert"}, {"imatrix": 7, "baseline": 7, "evaluate": 3}

    def beside(memory: float, *running: str) -> list[str]:
        return [stage.name for stage in ready(PLAN, done, running, Room(2, memory, needs))]

    assert beside(14) == ["imatrix", "baseline"]
    assert beside(13) == ["imatrix", "evaluate"]
    assert beside(9, "imatrix") == []
    assert beside(1) == ["imatrix"]


def test_a_type_that_needs_no_importance_matrix_does_not_wait_for_one() -> None:
    """Q8_0 needs only the baseline."""
    assert "quantize-Q8_0" in started({"prepare", "train", "convert", "baseline"}, {"imatrix", "evaluate"})


def test_a_stage_waits_for_the_maker_of_what_it_reads() -> None:
    """The maker of a damaged artifact runs once more; who reads it does not start meanwhile, and fails not again."""
    all_but = {stage.name for stage in PLAN.stages}

    assert started(all_but - {"prepare", "convert"}, set()) == ["prepare"]
    assert started(all_but - {"convert", "quantize-Q4_K_M"}, {"convert"}) == []
    assert started(all_but - {"convert", "evaluate"}, set()) == ["convert"]


@given(st.integers(1, 4), st.randoms())
def test_every_order_of_endings_runs_every_stage_once(limit: int, random: "st.Random") -> None:  # type: ignore[name-defined]
    """Whichever stage ends first, all run exactly once and never more than the limit at a time."""
    done: list[str] = []
    running: list[str] = []
    while True:
        running += [stage.name for stage in ready(PLAN, done, running, Room(limit))]
        assert len(running) <= limit
        if not running:
            break
        ended = random.choice(running)
        running.remove(ended)
        done.append(ended)
    assert sorted(done) == sorted(stage.name for stage in PLAN.stages)


def test_the_maker_of_an_artifact_is_found_by_kind_and_key() -> None:
    """So that a corrupt input can be made again."""
    made = PLAN.stage("convert").outputs[1]

    found = maker(PLAN, ArtifactReference(kind=made.kind, key=made.key))
    assert found is not None
    assert found.name == "convert"
    assert maker(PLAN, ArtifactReference(kind=Kind.GGUF, key="0" * 64)) is None
