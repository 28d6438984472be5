"""Hold what travels in the simulation, and what waits in rows."""

from __future__ import annotations

from datetime import datetime

from saga._core import topics
from saga._core.bodies import Command, Outcome
from saga._core.envelope import Envelope
from saga._core.rows import RunRow
from saga._core.words import Kind, Reason


class Item:
    """Be one event, command or outcome for one service, fresh from its topic or out of a row.

    `cause` is the run that emitted an event, told apart from what the decisions make of it.
    `step` is the one step a row waits for, "" when it is for all that react. `due_at=None` waits for a gate.
    """

    __slots__ = ("attempt", "body", "cause", "due_at", "envelope", "reason", "step", "topic")

    def __init__(self, envelope: Envelope, topic: str, body: Command | Outcome | None = None) -> None:
        """Come from a topic."""
        self.envelope = envelope
        self.topic = topic
        self.body = body
        self.cause: tuple[str, str] = ("", "")
        self.step = ""
        self.attempt = 0
        self.due_at: datetime | None = None
        self.reason: Reason | None = None

    def aside(self, step: str, reason: Reason, due_at: datetime | None, attempt: int) -> Item:
        """Return the row that keeps it."""
        row = Item(self.envelope, self.topic, self.body)
        row.cause = self.cause
        row.step, row.reason, row.due_at, row.attempt = step, reason, due_at, attempt
        return row

    @property
    def key(self) -> tuple[str, str, str, bool]:
        """Return what no two rows that keep it may share."""
        return (self.envelope.saga_id, self.envelope.id, self.step, self.reason is Reason.PARKED)


def events_of(run: RunRow) -> list[Item]:
    """Return the events an ended run emits, one for each branch of a fan-out; mirrors emit.ended_run."""
    branches = [run.branch]
    if run.fan_out is not None:
        branches = [f"{number}of{run.fan_out}" for number in range(1, run.fan_out + 1)] or ["0of0"]
    topic = topics.events_topic(run.service)
    time = run.done_at or run.created_at
    items: list[Item] = []
    for branch in branches:
        envelope = Envelope(
            id=f"{run.step}/{branch}",
            source=run.service,
            type=run.result_type,
            kind=Kind.EVENT,
            time=time,
            payload=b"{}",
            saga_id=run.saga_id,
            plan=run.plan,
            step=run.step,
            branch=branch,
            expires_at=run.expires_at,
        )
        item = Item(envelope, topic)
        item.cause = (run.step, run.branch)
        items.append(item)
    return items


def message_of(
    kind: Kind, body: Command | Outcome, topic: str, *, saga_id: str, plan: str, now: datetime, expires_at: datetime
) -> Item:
    """Return a command or an outcome of the coordinator."""
    envelope = Envelope(
        id=f"{kind}/{body}",
        source="coordinator",
        type=f"saga.{kind}",
        kind=kind,
        time=now,
        payload=b"",
        saga_id=saga_id,
        plan=plan,
        step=getattr(body, "step", ""),
        branch=getattr(body, "branch", ""),
        expires_at=expires_at,
    )
    return Item(envelope, topic, body)
