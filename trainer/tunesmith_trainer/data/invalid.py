"""A tally with unusable rows in, one failure out that names what is wrong with them."""

from tunesmith_api.failures import FailureClass, StageFailure
from tunesmith_trainer.data.tally import Tally

NAMED = 5


def refuse_invalid(tally: Tally) -> None:
    """Raises DatasetInvalid if there is an unusable row."""
    if not tally.invalid:
        return
    alike = tally.alike[:NAMED]
    named = "; ".join(each.told(tally.rows[each.dataset]) for each in alike)
    rest = tally.invalid - sum(each.count for each in alike)
    more = f" (and {rest} more)" if rest else ""
    hints = dict.fromkeys(each.hint(tally.rows[each.dataset]) for each in alike)
    raise StageFailure(
        FailureClass.DATASET_INVALID,
        f"{tally.invalid} of {tally.read} rows cannot be used: {named}{more}",
        hint=" ".join(hints),
    )
