"""Say what time asks of one saga: its timeout, its steps' own limits, repeated commands, rows that must be kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from saga._core.closure import demanded, only_received
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep, kept_until
from saga._core.plan import Topology
from saga._core.words import Mark, RunKey, RunStatus

RESEND_FIRST = timedelta(seconds=30)
RESEND_CAP = timedelta(minutes=10)


def due_at(topology: Topology, instance: Instance) -> datetime | None:
    """Return when the instance has to be looked at although nothing is reported, None when nothing is owed."""
    if instance.phase in ENDED:
        return None
    times = [resend_at(instance), keep_at(topology, instance)]
    # A child that is ready waits for its parent, whatever its own times are: its rows are kept for as long.
    if instance.mark is Mark.FREE and instance.phase is not Phase.READY:
        if instance.phase is Phase.RUNNING and instance.stuck is None:
            times += [timeout_at(topology, instance), within_at(topology, instance)[0]]
        if instance.stuck is None:
            times.append(overdue_at(instance))
    return min((time for time in times if time is not None), default=None)


def timeout_at(topology: Topology, instance: Instance) -> datetime | None:
    """Return when the saga's own timeout passes; a saga that has not started has none."""
    if only_received(topology, instance):
        return None
    return overdue_at(instance) - topology.forward_window


def overdue_at(instance: Instance) -> datetime:
    """Return when the forward window ends; while a person holds the saga, it stands still."""
    return instance.expires_at + instance.paused


def within_at(topology: Topology, instance: Instance) -> tuple[datetime | None, RunKey | None]:
    """Return the earliest time by which a step that has its cause must have ended, and its run."""
    if not topology.limited:
        return None, None
    found: list[tuple[datetime, RunKey]] = []
    for fact in instance.runs.values():
        if fact.status is not RunStatus.DONE:
            continue
        for key in demanded(topology, fact):
            within_ms = topology.steps[key.step].within_ms
            if within_ms and key not in instance.runs:
                found.append((fact.at + timedelta(milliseconds=within_ms) + instance.paused, key))
    return min(found, default=(None, None))


def resend_at(instance: Instance) -> datetime | None:
    """Return when unanswered commands are sent again: after 30 s, then doubling up to 10 min."""
    asked = Answer.ASKED in instance.answers.values() or UndoStep.ASKED in instance.undos.values()
    asked = asked and instance.phase is not Phase.COMMITTED and instance.mark is Mark.FREE
    if not (asked or instance.owed) or instance.sent_at is None:
        return None
    pause: timedelta = min(RESEND_FIRST * 2 ** min(instance.resends, 10), RESEND_CAP)
    return instance.sent_at + pause


def keep_at(topology: Topology, instance: Instance) -> datetime:
    """Return when the participants of a saga still open are asked to keep its rows for longer."""
    return kept_until(instance) - topology.keep_margin


def keep_until(topology: Topology, instance: Instance, now: datetime) -> datetime:
    """Return the time to ask for: a few margins on, so that one unanswered command does no harm."""
    return max(kept_until(instance), now) + 3 * topology.keep_margin
