"""What a job takes of which disk follows from its plan; a disk that is too small is told with figures."""

from pathlib import Path

import pytest

from support.builders import a_plan, a_spec, resolved
from tunesmith.local.disk import Disk, needed, refuse_small_disk
from tunesmith_api.effective import resolve_settings
from tunesmith_api.estimates import estimate
from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_api.needs import Space, space_of

SPEC = a_spec(quantizations=["Q4_K_M", "Q8_0"])
PLAN, RESOLVED = a_plan(SPEC), resolved(SPEC)
VALUES = resolve_settings("job", SPEC, RESOLVED)


def spaces(*names: str) -> list[Space]:
    return [space_of(stage, RESOLVED, VALUES) for stage in PLAN.stages if not names or stage.name in names]


def test_a_whole_job_takes_what_plan_says() -> None:
    """Two ways to the same figure: by stage here, in one formula there."""
    types = tuple(type_.value for type_ in SPEC.quantizations)
    said = estimate(RESOLVED, VALUES, types).disk_bytes

    assert needed(spaces(), store_is_local=True, one_disk=True) == (said, 0)


def test_only_what_is_still_to_be_made_counts() -> None:
    """One more quantization of a finished job takes the size of its file."""
    (one,) = spaces("quantize-Q8_0")

    assert needed([one], store_is_local=True, one_disk=True) == (one.kept, 0)
    assert one.kept == pytest.approx(143e6, rel=0.1)
    assert needed([], store_is_local=True, one_disk=True) == (0, 0)


def test_two_disks_and_a_store_that_is_no_folder() -> None:
    """Scratch holds one stage at a time; what it reads too where it has to be fetched."""
    both = [Space(kept=10, passing=5, read=100), Space(kept=7, passing=1, read=3)]

    assert needed(both, store_is_local=True, one_disk=False) == (17, 15)
    assert needed(both, store_is_local=False, one_disk=False) == (0, 115)


@pytest.mark.parametrize(
    ("need", "failure"), [(101, FailureClass.DOES_NOT_FIT), (51, FailureClass.DISK_FULL), (50, None)]
)
def test_too_small_and_too_full_are_two_things(need: int, failure: FailureClass | None) -> None:
    """DoesNotFit cannot be cured by freeing space, DiskFull can; both say how much, where, and what helps."""
    disk = Disk(Path("/somewhere"), total=100 * 10**9, free=50 * 10**9)
    if failure is None:
        refuse_small_disk(need * 10**9, disk, disk.folder)
        return
    with pytest.raises(StageFailure) as caught:
        refuse_small_disk(need * 10**9, disk, disk.folder)

    assert caught.value.failure is failure
    assert f"{need}.00 GB in /somewhere" in caught.value.message
    assert "--store" in caught.value.hint
