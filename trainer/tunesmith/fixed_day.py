"""The day that templates see which write the date, in training, measuring and chat: the same text every day (P10)."""

from datetime import UTC, datetime

# Llama 3.2's own fallback where no clock is there, and its form.
FIXED_DAY = datetime(2024, 7, 26, tzinfo=UTC)
DATE_STRING = FIXED_DAY.strftime("%d %b %Y")
