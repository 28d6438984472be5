"""Make one list out of those of several databases, page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar, cast

from saga._core.sagas import NO_PLACE, read_token, write_token
from saga.errors import SettingsError

T = TypeVar("T")


def read_ends(token: str) -> Mapping[str, int]:
    """Return the last ID shown of each database; raises SettingsError for a token that is none."""
    if not token:
        return {}
    found = read_token(token)
    if not isinstance(found, dict):
        raise SettingsError(NO_PLACE)
    ends = cast("dict[object, object]", found)
    if not all(isinstance(name, str) and isinstance(end, int) for name, end in ends.items()):
        raise SettingsError(NO_PLACE)
    return cast("dict[str, int]", ends)


def merge(
    pages: Mapping[str, Sequence[T]],
    ends: Mapping[str, int],
    limit: int,
    *,
    at: Callable[[T], datetime],
    id_of: Callable[[T], int],
) -> tuple[tuple[tuple[str, T], ...], str]:
    """Return the newest of all pages with their databases, and the token behind them, "" when nothing is left.

    Each page is one database's, newest first by ID, and holds at least `limit` rows if there are that many. Within a
    database the order of IDs is kept, whatever the times say: no row is shown twice or left out.
    """
    heads = {name: list(page) for name, page in pages.items()}
    shown: list[tuple[str, T]] = []
    last = dict(ends)
    while len(shown) < limit and any(heads.values()):
        name = max((name for name, rows in heads.items() if rows), key=lambda name: at(heads[name][0]))
        row = heads[name].pop(0)
        last[name] = id_of(row)
        shown.append((name, row))
    left = any(heads.values()) or any(len(page) >= limit for page in pages.values())
    return tuple(shown), write_token(last) if shown and left else ""
