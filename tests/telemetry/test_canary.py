"""A marked value appears in no log line, span, metric, error column or exception, whichever way a saga goes."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from saga import Ending
from saga.errors import KeyConflict, OutcomePending
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
