"""A marked value appears in no log line, span, metric, error column or exception, whichever way a saga goes."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from saga import Ending
from saga.errors import KeyConflict, OutcomePending
from saga.ports import Claim
from tests.telemetry.canary import CANARY, WAYS, Joined, Watched, leaks, watched

pytestmark = pytest.mark.anyio

ENDINGS = {
    "refused": Ending.COMPENSATED,
    "fails for good": Ending.COMPENSATED,
    "breaks its transaction": Ending.COMPENSATED,
    "outside raises": Ending.COMPENSATED,
    "outside refuses": Ending.COMPENSATED,
    "undo raises": Ending.STUCK,
}


async def go(club: Watched, how: str) -> None:
    handle = await club.club.join(Joined(how=how), key=how)
    if how == "end raises":
        with pytest.raises(OutcomePending) as pending:
            await handle.outcome(timeout_seconds=1)
        club.raised.append(pending.value)
        return
    ended = await handle.outcome(timeout_seconds=30)
    assert ended.ending is ENDINGS.get(how, Ending.COMPLETED)
    assert CANARY not in repr(ended)


@pytest.mark.parametrize("how", WAYS)
async def test_a_marked_value_is_said_nowhere(how: str, tmp_path: Path) -> None:
    async with watched(f"sqlite:///{tmp_path / 'club.db'}") as club:
        await go(club, how)
        if how == "subscriber raises":
            with anyio.fail_after(20):
                while not any("read_news" in line and "dead letter" in line for line in club.heard.lines):  # noqa: ASYNC110 - a log
                    await anyio.sleep(0.05)
        said = {**club.said(), "error column": await club.errors()}
        # It must have been there to be found: the rows hold it.
        assert CANARY.encode() in await anyio.Path(tmp_path / "club.db-wal").read_bytes()
    assert [(where, text) for where, texts in said.items() for text in leaks(texts)] == []
    assert said["log"]
    assert said["span"]


QUOTING = "begin select raise(abort, 'Failing row contains ({value})'); end"
"""What a database does that quotes the row it did not take, as PostgreSQL's DETAIL does."""


async def spoil(club: Watched, on: str) -> None:
    """Have the database refuse a row of saga's own, with a text that says what is in it."""
    async with club.store.unit(Claim(service="desk", sagas=())) as unit:
        await unit.db.execute(f"create trigger spoilt before {on} {QUOTING.format(value=CANARY)}")


async def heard(club: Watched, words: str) -> None:
    """Wait for a line of the log."""
    with anyio.fail_after(20):
        while not any(words in line for line in club.heard.lines):  # noqa: ASYNC110 - a log
            await anyio.sleep(0.05)


async def test_what_the_database_says_of_a_row_while_a_call_is_stored_is_said_nowhere(tmp_path: Path) -> None:
    async with watched(f"sqlite:///{tmp_path / 'club.db'}") as club:
        await spoil(club, "update on saga_run when new.step = 'bank.charge'")
        await club.club.join(Joined(how="well"), key="one")
        await heard(club, "went wrong inside saga")
        said = {**club.said(), "error column": await club.errors()}
    assert [(where, text) for where, texts in said.items() for text in leaks(texts)] == []
    assert any("IntegrityError SQLITE_CONSTRAINT_TRIGGER: its text may quote a row" in line for line in said["log"])
    assert any("Traceback" in line and "_store" in line for line in said["log"])


async def test_what_the_database_says_of_a_row_while_a_command_is_obeyed_is_said_nowhere(tmp_path: Path) -> None:
    async with watched(f"sqlite:///{tmp_path / 'club.db'}") as club:
        await spoil(club, "insert on saga_gate when new.service = 'checks'")
        await club.club.join(Joined(how="outside refuses"), key="one")
        await heard(club, "a command for saga")
        with anyio.fail_after(20):
            while not any("inside saga" in text for text in await club.errors()):  # noqa: ASYNC110 - a table
                await anyio.sleep(0.05)
        said = {**club.said(), "error column": await club.errors()}
    assert [(where, text) for where, texts in said.items() for text in leaks(texts)] == []
    assert any("inside saga: its text may quote a row" in text for text in said["error column"])


async def test_what_is_raised_to_callers_does_not_say_it(tmp_path: Path) -> None:
    async with watched(f"sqlite:///{tmp_path / 'club.db'}") as club:
        await club.club.join(Joined(how="well"), key="one")
        with pytest.raises(KeyConflict) as conflict:
            await club.club.join(Joined(how="well", name=CANARY + "2"), key="one")
        club.raised.append(conflict.value)
    assert leaks(club.said()["exception"]) == []


async def test_the_error_that_is_told_names_what_stands_in_its_place(tmp_path: Path) -> None:
    async with watched(f"sqlite:///{tmp_path / 'club.db'}") as club:
        await go(club, "fails for good")
        (error,) = {text for text in await club.errors() if text}
    assert error.startswith("Permanent: cannot work with <")
    assert "Joined(how='fails for good', name=<PII>, card=<secret>, home=<PII>)" in error
