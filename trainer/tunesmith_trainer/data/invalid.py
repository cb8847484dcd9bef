"""A tally with unusable rows in, one failure out that names the first of them."""

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.gather import Tally

NAMED = 5


def refuse_invalid(tally: Tally) -> None:
    """Raises DatasetInvalid if there is an unusable row."""
    if not tally.invalid:
        return
    named = "; ".join(map(str, tally.problems[:NAMED]))
    more = f" (and {tally.invalid - NAMED} more)" if tally.invalid > NAMED else ""
    raise StageFailure(
        FailureClass.DATASET_INVALID, f"{tally.invalid} of {tally.read} rows cannot be used: {named}{more}"
    )
