"""What a template made of today becomes what it had made of the day that was trained with (P10)."""

from datetime import datetime

import pytest

from tunesmith.fixed_day import on_the_fixed_day, today, writes_today

NOVEMBER = datetime(2026, 11, 7, tzinfo=today().tzinfo)
NEXT = datetime(2026, 11, 8, tzinfo=today().tzinfo)


@pytest.mark.parametrize(
    ("template", "text", "fixed"),
    [
        pytest.param("{{ strftime_now('%d %B %Y') }}", "07 November 2026: Hi", "26 July 2024: Hi", id="one date"),
        pytest.param('{{ strftime_now("%m") }} {{ strftime_now("%d") }}', "11 07", "07 26", id="each by itself"),
        pytest.param("{{ strftime_now('%Y') }}", "2026: order 2026-1", "2024: order 2026-1", id="a user's own stays"),
        pytest.param("{{ strftime_now('%d.%m.%Y') }}", "08.11.2026", "26.07.2024", id="midnight has passed"),
        pytest.param("{{ strftime_now('%d') }}", "Hello", "Hello", id="a branch that was not taken"),
        pytest.param("{{ date_string }} {{ strftime_now('%d') }}", "07", "07", id="it is told the day"),
        pytest.param("{{ messages }}", "07 November 2026", "07 November 2026", id="it knows no day"),
    ],
)
def test_today_becomes_the_fixed_day(template: str, text: str, fixed: str) -> None:
    """In the order in which the template writes its dates, and no further."""
    assert on_the_fixed_day(text, template, (NOVEMBER, NEXT)) == fixed


def test_a_template_that_is_told_the_day_writes_none_by_itself() -> None:
    """Llama 3.2 asks the clock only where nobody tells it."""
    assert writes_today("{{ strftime_now('%d') }}")
    assert not writes_today("{% if not date_string %}{{ strftime_now('%d') }}{% endif %}")
