"""Hold times against RFC 3339 section 5.6."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given

from saga._core.times import format_time, parse_time
from saga.errors import Undecodable
from tests.core.wire_strategies import TIMES


@given(time=TIMES)
def test_a_time_comes_back_as_it_was(time: datetime) -> None:
    text = format_time(time)
    assert len(text) == len("2025-01-31T12:00:00.000000Z")
    assert parse_time(text, "at") == time


def test_other_zones_become_utc() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    assert format_time(datetime(2025, 1, 1, 5, 30, tzinfo=zone)) == "2025-01-01T00:00:00.000000Z"


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        format_time(datetime(2025, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-01T00:00:00Z",
        "2025-01-01t00:00:00z",
        "2025-01-01 00:00:00Z",
        "2025-01-01T00:00:00.0Z",
        "2025-01-01T00:00:00.000000999Z",
        "2025-01-01T01:00:00+01:00",
        "2024-12-31T23:30:00.00-00:30",
    ],
)
def test_every_form_of_the_rfc_is_read(text: str) -> None:
    time = parse_time(text, "at")
    assert time == datetime(2025, 1, 1, tzinfo=UTC)
    assert time.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-01-01",
        "2025-01-01T00:00:00",
        "20250101T000000Z",
        "2025-W01-1T00:00:00Z",
        "2025-01-01T00:00:00,5Z",
        "2025-01-01T00:00Z",
        "2025-01-01T00:00:00+0100",
        "2025-01-01T00:00:00+01",
        "2025-01-01T00:00:00+01:00:30",
        "2025-01-01T24:00:00Z",
        "2025-01-01T00:00:60Z",
        "2025-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "\u0662025-01-01T00:00:00Z",
        "2025-01-01T00:00:00.Z0Z",
        "2025-01-01T00:00:00.Z",
        "2025-01-01T00:00:00.",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(Undecodable, match="RFC 3339"):
        parse_time(text, "at")
