"""Play a payment gateway: what it promises, what it remembers, and everything that can go wrong with it.

It does each thing once for each idempotency key, however often it is asked, and its answer is stored
before it is given. `find` says what came of a key and changes nothing. What it does not find may still
happen: a call that hangs is carried out whether or not anybody still waits. Keys are forgotten after
`forgets_after`; a call under a forgotten key is a new one.

`Gateway` has no clock and never waits; `gateway_doors.py` and `gateway_http.py` lead to it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class GatewayDown(Exception):
    """The gateway gave no answer; whether it did what was asked is not known."""


class Answer(BaseModel):
    """Say what came of a key: the authorization or charge it made, or why there is none."""

    model_config = ConfigDict(frozen=True)

    key: str
    ok: bool
    reference: str = ""
    amount: int = 0
    reason: str = ""


class Entry(BaseModel):
    """Be one line of the gateway's own ledger: money set aside, taken, or given free again."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    what: str
    key: str
    authorization: str
    order_id: str
    amount: int


# --- what goes wrong, by card -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Say what goes wrong with a card, in authorizing or in capturing.

    `down` lasts until `repair`. `fails` calls of each key are refused before anything is done, `lost`
    answers after it was done. A call hangs for `hangs_seconds` before it is carried out, or is carried out at once
    and answered `late_seconds` later. With `twice` the network brings every call two times.
    """

    call: str = "authorize"
    declined: bool = False
    down: bool = False
    fails: int = 0
    lost: int = 0
    hangs_seconds: float = 0.0
    late_seconds: float = 0.0
    twice: bool = False


CARDS = {
    "card-ok": Trouble(),
    "card-declined": Trouble(declined=True),
    "card-declined-late": Trouble(call="capture", declined=True),
    "card-flaky": Trouble(fails=2),
    "card-lost-answer": Trouble(call="capture", lost=1),
    "card-down": Trouble(down=True),
    "card-hangs": Trouble(call="capture", hangs_seconds=6.0),
    "card-hangs-declined": Trouble(call="capture", hangs_seconds=6.0, declined=True),
    "card-slow": Trouble(hangs_seconds=0.5),
    "card-late": Trouble(late_seconds=3.0),
    "card-late-charge": Trouble(call="capture", late_seconds=3.0),
    "card-twice": Trouble(call="capture", twice=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    call: str
    key: str
    card: str
    order_id: str
    authorization: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Tell the caller that the call hangs: `answer_to` has the answer at `until`."""

    key: str
    until: datetime


# --- the gateway -------------------------------------------------------------------------------------------

NO_CONNECTION = "no connection to the gateway"

TABLES = """
create table if not exists answer (key text primary key, body text not null, at text not null);
create table if not exists hold (
    authorization text primary key, order_id text not null, card text not null,
    amount integer not null, state text not null
);
create table if not exists entry (id integer primary key, body text not null);
"""


@dataclass(slots=True, kw_only=True)
class _Memory:
    """Hold what the play needs to know about calls; a gateway that dies forgets it, but never an answer."""

    calls: dict[str, int] = field(default_factory=dict[str, int])
    hanging: dict[str, tuple[datetime, _Request]] = field(default_factory=dict[str, tuple[datetime, _Request]])
    card_of: dict[str, str] = field(default_factory=dict[str, str])


class Gateway:
    """Be the gateway; every method takes the time it is called at and answers at once.

    Everything is in one SQLite file (or in memory). An effect, its line in the ledger and the answer to its
    key are one transaction, committed before the answer is given: a gateway that is killed and started again
    answers the same.
    """

    def __init__(self, path: str | Path = ":memory:", *, forgets_after: timedelta = timedelta(hours=24)) -> None:
        self._forgets_after = forgets_after
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(TABLES)
        self._cards = dict(CARDS)
        self._memory = _Memory()

    def close(self) -> None:
        self._db.close()

    # --- calls ---

    def authorize(self, key: str, *, order_id: str, card: str, amount: int, now: datetime) -> Answer | Wait:
        authorization = f"auth-{key[:12]}"
        request = _Request(
            call="authorize", key=key, card=card, order_id=order_id, authorization=authorization, amount=amount
        )
        return self._take(request, now)

    def capture(self, key: str, *, authorization: str, now: datetime) -> Answer | Wait:
        held = self._held("capture", key, authorization)
        return _unknown(key) if held is None else self._take(held, now)

    def void(self, key: str, *, authorization: str, now: datetime) -> Answer | Wait:
        held = self._held("void", key, authorization)
        return _unknown(key) if held is None else self._take(held, now)

    def answer_to(self, key: str, *, now: datetime) -> Answer:
        """Return the answer a hanging call has got by now."""
        self._catch_up(now)
        answer = self._answer(key)
        if answer is None:
            msg = "the call is still on its way"
            raise GatewayDown(msg)
        return answer

    def find(self, key: str, *, now: datetime) -> Answer | None:
        """Return what came of a key, None when nothing is known of it (any more, or yet)."""
        if self._trouble(self._memory.card_of.get(key, "")).down:
            raise GatewayDown(NO_CONNECTION)
        self._catch_up(now)
        return self._answer(key)

    # --- the play's controls ---

    def repair(self, card: str) -> None:
        """Let a card that was down work from now on."""
        self._cards[card] = Trouble()

    def calls(self, order_id: str, call: str) -> int:
        """Return how often the gateway was called for an order."""
        return self._memory.calls.get(f"{call} {order_id}", 0)

    # --- its books ---

    def ledger(self) -> list[Entry]:
        rows = self._db.execute("select body from entry order by id").fetchall()
        return [Entry.model_validate_json(body) for (body,) in rows]

    def open_authorizations(self) -> list[str]:
        rows = self._db.execute("select authorization from hold where state = 'open' order by authorization")
        return [authorization for (authorization,) in rows.fetchall()]

    # --- inside ---

    def _trouble(self, card: str) -> Trouble:
        return self._cards.get(card, Trouble())

    def _held(self, call: str, key: str, authorization: str) -> _Request | None:
        row = self._db.execute(
            "select card, order_id, amount from hold where authorization = ?", (authorization,)
        ).fetchone()
        if row is None:
            return None
        card, order_id, amount = row
        return _Request(call=call, key=key, card=card, order_id=order_id, authorization=authorization, amount=amount)

    def _take(self, request: _Request, now: datetime) -> Answer | Wait:
        """Carry a request out, or do to it what the card's trouble says."""
        counted = f"{request.call} {request.order_id}"
        tries = self._memory.calls[counted] = self._memory.calls.get(counted, 0) + 1
        self._memory.card_of[request.key] = request.card
        self._catch_up(now)
        self._forget(now)
        trouble = self._trouble(request.card)
        if trouble.call != request.call:
            trouble = Trouble()
        if trouble.down or tries <= trouble.fails:
            raise GatewayDown(NO_CONNECTION)
        answer = self._answer(request.key)
        if answer is None and trouble.hangs_seconds:
            until = now + timedelta(seconds=trouble.hangs_seconds)
            until, _ = self._memory.hanging.setdefault(request.key, (until, request))
            return Wait(key=request.key, until=until)
        if answer is None:
            answer = self._carry_out(request, now)
            if trouble.twice:
                return self._take(request, now)
            if trouble.late_seconds:
                return Wait(key=request.key, until=now + timedelta(seconds=trouble.late_seconds))
        if tries <= trouble.lost:
            msg = "the connection broke before the answer came"
            raise GatewayDown(msg)
        return answer

    def _catch_up(self, now: datetime) -> None:
        """Carry out the hanging calls whose time has come, whether or not anybody still waits for them."""
        for until, request in sorted(self._memory.hanging.values(), key=lambda hanging: hanging[0]):
            if until <= now:
                del self._memory.hanging[request.key]
                self._carry_out(request, until)

    def _carry_out(self, request: _Request, now: datetime) -> Answer:
        if (no := self._objection(request)) is not None:
            answer = Answer(key=request.key, ok=False, reason=no)
            self._store(answer, now)
            return answer
        reference = f"charge-{request.key[:12]}" if request.call == "capture" else request.authorization
        answer = Answer(key=request.key, ok=True, reference=reference, amount=request.amount)
        self._store(answer, now, request)
        return answer

    def _objection(self, request: _Request) -> str | None:
        trouble = self._trouble(request.card)
        if trouble.declined and trouble.call == request.call:
            return "declined by the bank"
        if request.call == "authorize":
            return None
        (state,) = self._db.execute(
            "select state from hold where authorization = ?", (request.authorization,)
        ).fetchone()
        return None if state == "open" else f"the authorization is {state}"

    def _answer(self, key: str) -> Answer | None:
        row = self._db.execute("select body from answer where key = ?", (key,)).fetchone()
        return None if row is None else Answer.model_validate_json(row[0])

    def _forget(self, now: datetime) -> None:
        self._db.execute("delete from answer where at <= ?", ((now - self._forgets_after).isoformat(),))

    def _store(self, answer: Answer, now: datetime, done: _Request | None = None) -> None:
        """Store an answer, and in the same transaction what was done."""
        with self._db:
            self._db.execute("begin immediate")
            row = (answer.key, answer.model_dump_json(), now.isoformat())
            self._db.execute("insert into answer values (?, ?, ?)", row)
            if done is not None:
                self._store_effect(done, now)

    def _store_effect(self, done: _Request, now: datetime) -> None:
        what = {"authorize": "authorized", "capture": "captured", "void": "voided"}[done.call]
        state = "open" if done.call == "authorize" else what
        self._db.execute(
            "insert into hold values (?, ?, ?, ?, ?) on conflict (authorization) do update set state = excluded.state",
            (done.authorization, done.order_id, done.card, done.amount, state),
        )
        entry = Entry.model_validate({**asdict(done), "at": now, "what": what})
        self._db.execute("insert into entry (body) values (?)", (entry.model_dump_json(),))


def _unknown(key: str) -> Answer:
    return Answer(key=key, ok=False, reason="there is no such authorization")
