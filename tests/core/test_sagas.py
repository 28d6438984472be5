from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core.instance import ENDED, Phase
from saga._core.sagas import (
    ENDED_PHASES,
    OPEN_PHASES,
    PHASES,
    SagaFilter,
    SagaQuery,
    read_place,
    read_token,
    write_place,
    write_token,
)
from saga._core.stored_instance import STUCK_PHASE
from saga.console._merging import merge, read_ends
from saga.errors import SettingsError

TIMES = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.none() | TIMES, st.text())
def test_a_place_comes_back_from_its_token(at: datetime | None, saga_id: str) -> None:
    token = write_place((at, saga_id))
    assert read_place(token) == (at, saga_id)
    assert token.replace("-", "").replace("_", "").isalnum()


@given(st.text())
def test_any_text_is_a_token_or_refused(text: str) -> None:
    for read in (read_place, read_token, read_ends):
        try:
            read(text)
        except SettingsError as error:
            assert "first page" in str(error)  # noqa: PT017 - most are refused, some are tokens


@pytest.mark.parametrize("value", [None, 1, [1, 2], ["x", "y"], [None, 3], {"a": 1}, ["2026-01-01T00:00:00Z"]])
def test_other_tokens_are_no_places(value: object) -> None:
    with pytest.raises(SettingsError):
        read_place(write_token(value))


@pytest.mark.parametrize("value", [None, [1], {"a": "b"}, {"a": None}])
def test_other_tokens_are_no_ends(value: object) -> None:
    with pytest.raises(SettingsError):
        read_ends(write_token(value))


def test_every_phase_is_open_or_ended() -> None:
    assert set(PHASES) == {STUCK_PHASE, *(phase.value for phase in Phase)}
    assert set(ENDED_PHASES) == {phase.value for phase in ENDED}
    assert not set(OPEN_PHASES) & set(ENDED_PHASES)


@pytest.mark.parametrize(
    ("text", "prefix", "whole"),
    [
        ("0f3a", "0f3a", False),
        (" 0f3a ", "0f3a", False),
        ("0f3", "", False),
        ("out of stock", "", False),
        ("%%%%", "", False),
        ("bbd0a47e-7103-5fb6-80d1-f45fd3aa768d", "bbd0a47e-7103-5fb6-80d1-f45fd3aa768d", True),
    ],
)
def test_a_text_may_be_how_an_id_begins(text: str, prefix: str, whole: bool) -> None:
    query = SagaQuery(wanted=SagaFilter(text=text))
    assert (query.text_prefix, query.is_id) == (prefix, whole)


# --- lists of several databases ------------------------------------------------------------------------------

Row = tuple[int, int]
"""An ID and a time."""


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=12), max_size=3),
    st.integers(1, 5),
)
def test_pages_of_several_databases_show_every_row_once_in_order(times: dict[str, list[int]], limit: int) -> None:
    tables = {name: [(n + 1, at) for n, at in enumerate(found)] for name, found in times.items()}
    shown: list[tuple[str, Row]] = []
    token = ""
    for _ in range(100):
        ends = read_ends(token)
        pages = {
            name: sorted((row for row in rows if not ends.get(name) or row[0] < ends[name]), reverse=True)[:limit]
            for name, rows in tables.items()
        }
        page, token = merge(
            pages,
            ends,
            limit,
            at=lambda row: datetime.fromtimestamp(row[1], UTC),
            id_of=lambda row: row[0],
        )
        shown += page
        if not token:
            break
    assert sorted(shown) == sorted((name, row) for name, rows in tables.items() for row in rows)
    for name in tables:
        ids = [row[0] for database, row in shown if database == name]
        assert ids == sorted(ids, reverse=True)
