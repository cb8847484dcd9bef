"""The day that templates see which write the date, in training, measuring and chat: the same text every day (P10)."""

import re
from collections.abc import Iterable
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


def on_the_fixed_day(text: str, template: str, days: Iterable[datetime]) -> str:
    """What `template` would have made of the fixed day in place of one of `days`, on which it was rendered.

    What else in it looks like that day's date is changed as well, so both sides of a comparison go through here.
    """
    if not writes_today(template):
        return text
    forms = {found[2] for found in _CLOCK.finditer(template)}
    dates = {day.strftime(form): FIXED_DAY.strftime(form) for form in forms for day in days}
    # The longest first: a form of another ("%Y") would break it.
    for date in sorted(dates, key=len, reverse=True):
        text = text.replace(date, dates[date])
    return text
