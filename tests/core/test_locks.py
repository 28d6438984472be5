from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saga._core.bodies import Outcome
from saga._core.locks import Granted, Held, LockRequest, LockView, Mine, Otherwise, Verdict, Waits, decide_lock, frees
from saga._core.records import decode_outcome, encode_outcome
from saga._core.words import Ending, Standing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLL = 10.0
SECOND = timedelta(seconds=1)


def decide(otherwise: Otherwise = Otherwise.WAIT, timeout: timedelta | None = None, **seen: Any) -> Verdict:
    request = LockRequest(
        kind="sku",
        entity="lamp",
        saga_id="me",
        step="stock.reserve",
        message_id="1",
        otherwise=otherwise,
        timeout=timeout,
        expires_at=NOW,
    )
    return decide_lock(LockView(now=NOW, **seen), request, POLL)


EVERY = list(Otherwise)


@pytest.mark.parametrize("otherwise", EVERY)
def test_a_free_entity_is_granted(otherwise: Otherwise) -> None:
    assert decide(otherwise) == Granted()
    assert decide(otherwise, expires_at=NOW - SECOND) == Granted()


@pytest.mark.parametrize("otherwise", EVERY)
def test_what_the_saga_has_it_has_whoever_waits(otherwise: Otherwise) -> None:
    assert decide(otherwise, holder="me", ahead="x", expires_at=NOW + SECOND) == Mine()


def test_what_the_saga_had_when_it_expired_it_takes_again() -> None:
    assert decide(holder="me", expires_at=NOW) == Granted()


def test_what_another_saga_holds_is_refused_or_waited_for() -> None:
    held: dict[str, Any] = {"holder": "x", "expires_at": NOW + SECOND}
    assert decide(Otherwise.REFUSE, **held) == Held(by="x")
    assert decide(Otherwise.WAIT, **held) == decide(Otherwise.QUEUE, **held) == Waits(by="x", again_seconds=POLL)


@pytest.mark.parametrize("otherwise", EVERY)
@pytest.mark.parametrize(
    ("expires", "keep", "free"), [(0, None, True), (1, None, False), (-9, 1, False), (-9, 0, True), (1, -9, False)]
)
def test_a_holder_holds_until_the_later_of_its_two_ends(
    otherwise: Otherwise, expires: int, keep: int | None, *, free: bool
) -> None:
    keep_until = None if keep is None else NOW + keep * SECOND
    verdict = decide(otherwise, holder="x", expires_at=NOW + expires * SECOND, keep_until=keep_until)
    assert (verdict == Granted()) is free


def test_a_free_entity_is_promised_to_who_is_ahead() -> None:
    assert decide(Otherwise.REFUSE, ahead="x") == Held(by="x")
    assert decide(Otherwise.WAIT, ahead="x") == decide(Otherwise.QUEUE, ahead="x") == Waits(by="x", again_seconds=POLL)
    assert decide(holder="y", expires_at=NOW, ahead="x") == Waits(by="x", again_seconds=POLL)


def test_a_wait_ends_with_its_time() -> None:
    held: dict[str, Any] = {"holder": "x", "expires_at": NOW + SECOND}
    assert decide(timeout=4 * SECOND, **held) == Waits(by="x", again_seconds=4.0)
    assert decide(timeout=4 * SECOND, since=NOW - 3 * SECOND, **held) == Waits(by="x", again_seconds=1.0)
    assert decide(timeout=99 * SECOND, since=NOW, **held) == Waits(by="x", again_seconds=POLL)
    assert decide(timeout=4 * SECOND, since=NOW - 4 * SECOND, **held) == Held(by="x")
    assert decide(timeout=4 * SECOND, since=NOW - 4 * SECOND) == Granted()


@pytest.mark.parametrize(
    ("ending", "standing", "free"),
    [
        (Ending.COMPLETED, Standing.FINAL, True),
        (Ending.COMPLETED, Standing.PROVISIONAL, False),
        (Ending.COMPENSATED, Standing.FINAL, True),
        (Ending.STUCK, Standing.FINAL, False),
    ],
)
def test_an_end_for_good_frees(ending: Ending, standing: Standing, *, free: bool) -> None:
    outcome = Outcome(ending=ending, standing=standing, at=NOW)
    assert decode_outcome(encode_outcome(outcome)) == outcome
    assert frees(outcome) is free
