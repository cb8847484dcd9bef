"""The day that templates see which write the date, in training, measuring and chat: the same text every day (P10)."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

# Llama 3.2's own fallback where no clock is there, and its form.
FIXED_DAY = datetime(2024, 7, 26, tzinfo=UTC)
DATE_STRING = FIXED_DAY.strftime("%d %b %Y")
# How templates ask for the time where they are not told the day (transformers, "Writing a chat template").
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


def today() -> datetime:
    """Now, in this machine's time zone, in which programs write it."""
    return datetime.now().astimezone()


def writes_today(template: str) -> bool:
    """Whether a template writes today's date, and nobody can tell it another: llama.cpp's clock cannot be set."""
    return "strftime_now" in template and "date_string" not in template


def on_the_fixed_day(text: str, template: str, days: Sequence[datetime]) -> str:
    """`text`, which `template` has made on one of `days`, as it would have been on the fixed day.

    Dates are changed one after another as the template writes them: another that stands behind them is a user's own.
    """
    if not writes_today(template):
        return text
    done = ""
    for form in (found[2] for found in _CLOCK.finditer(template)):
        dates = [day.strftime(form) for day in days if day.strftime(form) in text]
        if dates:
            before, _, text = text.partition(min(dates, key=text.index))
            done += before + FIXED_DAY.strftime(form)
    return done + text
