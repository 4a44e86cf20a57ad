"""Times as people in a time zone read them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.template import Context, Template
from django.utils import timezone

from core.zones import long, midnight, names, places, short, validate_time_zone, zone_of

# The hour that New York has twice.
FIRST = datetime(2026, 11, 1, 5, 30, 9, tzinfo=UTC)
SECOND = datetime(2026, 11, 1, 6, 30, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "1 Nov 2026, 05:30:09 UTC"),
        ("America/New_York", "1 Nov 2026, 01:30:09 EDT"),
        ("Asia/Kolkata", "1 Nov 2026, 11:00:09 IST"),
        ("Asia/Kathmandu", "1 Nov 2026, 11:15:09 UTC+5:45"),
        ("Pacific/Apia", "1 Nov 2026, 18:30:09 UTC+13"),
        ("Pacific/Marquesas", "31 Oct 2026, 20:00:09 UTC-9:30"),
    ],
)
def test_a_time_names_its_zone(zone: str, text: str) -> None:
    with timezone.override(zone_of(zone)):
        assert long(FIRST) == text


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    with timezone.override(zone_of("America/New_York")):
        assert [short(FIRST), short(SECOND)] == ["1 Nov 2026, 01:30 EDT", "1 Nov 2026, 01:30 EST"]


def test_the_hour_that_does_not_come_is_skipped() -> None:
    before, after = (datetime(2026, 3, 8, hour, 59, tzinfo=UTC) for hour in (6, 7))
    with timezone.override(zone_of("America/New_York")):
        assert [short(before), short(after)] == ["8 Mar 2026, 01:59 EST", "8 Mar 2026, 03:59 EDT"]


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("UTC", date(2026, 3, 8), "2026-03-08T00:00", 24),
        ("America/New_York", date(2026, 3, 7), "2026-03-07T05:00", 24),
        ("America/New_York", date(2026, 3, 8), "2026-03-08T05:00", 23),
        ("America/New_York", date(2026, 11, 1), "2026-11-01T04:00", 25),
        ("Asia/Kolkata", date(2026, 11, 1), "2026-10-31T18:30", 24),
        ("Pacific/Apia", date(2011, 12, 29), "2011-12-29T10:00", 24),
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00", 0),  # the country skipped it
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00", 24),
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00", 23),  # without its midnight
        ("America/Havana", date(2026, 11, 1), "2026-11-01T04:00", 25),  # with two of them
    ],
)
def test_a_day_is_as_long_as_its_zone_makes_it(
    zone: str, day: date, begins: str, hours: int
) -> None:
    with timezone.override(zone_of(zone)):
        begin, end = midnight(day), midnight(day + timedelta(days=1))
    assert f"{begin:%Y-%m-%dT%H:%M}" == begins
    assert end - begin == timedelta(hours=hours)


def rendered(text: str, **context: object) -> str:
    with timezone.override(zone_of("Pacific/Apia")):
        return Template("{% load times %}" + text).render(Context(context))


class TestTags:
    def test_a_moment(self) -> None:
        assert rendered("{% moment at %}", at=FIRST) == (
            '<time datetime="2026-11-01T05:30:09Z" title="1 Nov 2026, 05:30:09 UTC">'
            "1 Nov 2026, 18:30:09 UTC+13</time>"
        )

    def test_a_short_moment_has_all_of_it_in_its_title(self) -> None:
        assert rendered('{% moment at "short" %}', at=FIRST) == (
            '<time datetime="2026-11-01T05:30:09Z" title="1 Nov 2026, 05:30:09 UTC">'
            "1 Nov 2026, 18:30 UTC+13</time>"
        )

    def test_a_moment_of_today_may_be_the_time_alone(self) -> None:
        assert ">18:30 UTC+13</time>" in rendered('{% moment at "clock" %}', at=FIRST)

    def test_no_moment_is_a_dash(self) -> None:
        assert rendered("{% moment at %}", at=None) == "\N{EN DASH}"

    def test_an_offset_has_its_time_as_title(self) -> None:
        assert rendered("{% offset at words %}", at=FIRST, words="1.5 s <") == (
            '<time datetime="2026-11-01T05:30:09Z" title="1 Nov 2026, 18:30:09 UTC+13">'
            "1.5 s &lt;</time>"
        )

    def test_a_day_is_the_zones_and_can_be_utcs(self) -> None:
        late = datetime(2026, 11, 1, 23, tzinfo=UTC)
        assert rendered("{% day at %}", at=late) == '<time datetime="2026-11-02">2 Nov 2026</time>'
        assert rendered("{% utc_day at %}", at=late) == (
            '<time datetime="2026-11-01">1 Nov 2026</time>'
        )

    def test_a_day_without_a_time_is_the_same_everywhere(self) -> None:
        text = '<time datetime="2026-11-01">1 Nov 2026</time>'
        assert rendered("{% day at %}", at=date(2026, 11, 1)) == text
        assert rendered("{% utc_day at %}", at=date(2026, 11, 1)) == text


class TestNames:
    def test_what_browsers_report_is_among_them(self) -> None:
        assert {"UTC", "America/New_York", "Asia/Calcutta", "Asia/Kolkata"} <= names()

    @pytest.mark.parametrize(
        "name", ["", "Mars/Olympus", "america/new_york", "../etc/passwd", "localtime", "Factory"]
    )
    def test_others_are_refused(self, name: str) -> None:
        with pytest.raises(ValidationError, match="America/New_York"):
            validate_time_zone(name)

    def test_those_to_choose_from_are_found_by_their_city(self) -> None:
        offered = dict(places())
        assert offered["America/Argentina/Buenos_Aires"] == "Buenos Aires"
        assert offered["UTC"] == "UTC"
        assert "EST" not in offered
        assert set(offered) <= names()

    @pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd"])
    def test_a_zone_that_this_machine_does_not_know_is_utc(self, name: str) -> None:
        assert zone_of(name).key == "UTC"
