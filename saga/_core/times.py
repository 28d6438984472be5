"""Write and read points in time as they stand on the wire: RFC 3339, UTC, microseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from saga.errors import Undecodable

_SHORTEST = len("2025-01-31T12:00:00Z")
_REMEMBERED = 4096
"""A batch has one time, and all messages of a saga have its expiry."""


@lru_cache(_REMEMBERED)
def format_time(time: datetime) -> str:
    """Return `time` as `2025-01-31T12:00:00.000000Z` (RFC 3339 section 5.6), always in UTC.

    Raises ValueError for a naive datetime: guessing its zone would move deadlines by hours.
    """
    if time.tzinfo is not UTC:
        if time.utcoffset() is None:
            msg = f"{time!r} has no time zone: pass an aware datetime, such as datetime.now(UTC)"
            raise ValueError(msg)
        time = time.astimezone(UTC)
    return time.isoformat(timespec="microseconds")[:-6] + "Z"


def parse_time(text: str, what: str) -> datetime:
    """Return the UTC time in `text`; `what` names the field in the error.

    Reads RFC 3339 section 5.6 `date-time` with any offset; digits below the microsecond are dropped,
    a leap second (`:60`) is not read. Raises Undecodable.
    """
    try:
        return _time_in(text)
    except (ValueError, OverflowError):
        raise Undecodable(_complaint(text, what)) from None


@lru_cache(_REMEMBERED)
def _time_in(text: str) -> datetime:
    if not _has_shape(text):
        raise ValueError(text)
    time = datetime.fromisoformat(text.upper())
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _has_shape(text: str) -> bool:
    # `fromisoformat` reads more than RFC 3339 allows (week dates, basic format, local times, commas).
    # Checking the separators leaves exactly the RFC's form; the digits are left to it.
    return (
        len(text) >= _SHORTEST
        and text.isascii()
        and text[4] == text[7] == "-"
        and text[10] in "Tt "
        and text[13] == text[16] == ":"
        and text[19] in ".Zz+-"
        and (text[-1] in "Zz" or (text[-6] in "+-" and text[-3] == ":"))
        and (text[19] != "." or text[20].isdigit())
    )


def _complaint(text: str, what: str) -> str:
    return f"{what} is {text[:40]!r}: write it as RFC 3339 with a zone, such as 2025-01-31T12:00:00.000000Z"
