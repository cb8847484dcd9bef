"""A tally with unusable rows in, one failure out that names what is wrong with them."""

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.tally import Tally

NAMED = 5


def refuse_invalid(tally: Tally) -> None:
    """Raises DatasetInvalid if there is an unusable row."""
    if not tally.invalid:
        return
    kinds = tally.kinds[:NAMED]
    named = "; ".join(kind.told(tally.rows[kind.dataset]) for kind in kinds)
    rest = tally.invalid - sum(kind.count for kind in kinds)
    more = f" (and {rest} more)" if rest else ""
    hints = dict.fromkeys(kind.hint(tally.rows[kind.dataset]) for kind in kinds)
    raise StageFailure(
        FailureClass.DATASET_INVALID,
        f"{tally.invalid} of {tally.read} rows cannot be used: {named}{more}",
        hint=" ".join(hints),
    )
