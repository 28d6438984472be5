"""Say how long rows are kept, how many there may be, and who publishes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from saga.errors import SettingsError

HOUR_SECONDS = 3_600.0
DAY_SECONDS = 86_400.0


class Publishing(StrEnum):
    """Say who publishes the rows of the outbox: our RELAY, or CDC, a connector that reads PostgreSQL's log."""

    RELAY = "relay"
    CDC = "cdc"


class Aging(StrEnum):
    """Name what is deleted by its age, in the order in which it is: a gate may say how long others are kept."""

    RUNS = "runs"
    LOCKS = "locks"
    LOCK_QUEUE = "lock_queue"
    GATES = "gates"
    LETTERS = "letters"
    AUDITS = "audits"
    INSTANCES = "instances"
    PLANS = "plans"
    CAPTURED = "captured"


def _check(settings: object, least: float) -> None:
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if value is not None and not value >= least:
            what = f"{type(settings).__name__}({field.name}={value!r})"
            raise SettingsError(f"{what} cannot be used: write a number from {least:g} on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Say how long rows are kept after nobody can ask for them any more; a row that still owes something stays.

    Runs, locks and gates go `expired_hours` after the later of their expiry and the time their saga's coordinator has
    asked for; sagas `ended_days` after their end, and not before their expiry; dead letters `letters_days` after they
    died, unless their saga may still be open; the trail of people's acts after `audits_days`; plans that no saga has
    and that a newer revision has replaced for `plans_days`. In CDC mode a published row is kept for `captured_hours`.

    Every `every_seconds` old rows are deleted, `bite_rows` at a time. A row of the outbox is never deleted for its
    age: one older than `outbox_alarm_seconds` is warned of.
    """

    expired_hours: float = 24.0
    ended_days: float = 30.0
    letters_days: float = 30.0
    audits_days: float = 365.0
    plans_days: float = 90.0
    captured_hours: float = 1.0
    outbox_alarm_seconds: float = 60.0
    every_seconds: float = 600.0
    bite_rows: int = 1_000

    def __post_init__(self) -> None:
        """Raise SettingsError for a number that cannot be meant."""
        _check(self, 0.0)
        if self.bite_rows < 1 or self.every_seconds <= 0:
            raise SettingsError("Retention(bite_rows=…, every_seconds=…) need numbers above 0")

    @property
    def ages(self) -> Mapping[Aging, float]:
        """Return the age in seconds at which each kind of row goes."""
        expired = self.expired_hours * HOUR_SECONDS
        return {
            Aging.RUNS: expired,
            Aging.LOCKS: expired,
            Aging.LOCK_QUEUE: expired,
            Aging.GATES: expired,
            Aging.LETTERS: self.letters_days * DAY_SECONDS,
            Aging.AUDITS: self.audits_days * DAY_SECONDS,
            Aging.INSTANCES: self.ended_days * DAY_SECONDS,
            Aging.PLANS: self.plans_days * DAY_SECONDS,
            Aging.CAPTURED: self.captured_hours * HOUR_SECONDS,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCaps:
    """Refuse new sagas with Overloaded while a participant's database holds this many open rows; None: no cap.

    `outbox_rows` are rows not published yet, `waiting_deliveries` those that wait for an attempt, a time, a lock or
    a plan, `open_runs` runs with an outside call outstanding. Sagas that have begun go on: only starts are refused.
    The rows are counted every `refresh_seconds`, beside the work and never beyond the cap.
    """

    outbox_rows: int | None = 1_000_000
    waiting_deliveries: int | None = 1_000_000
    open_runs: int | None = 1_000_000
    refresh_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Raise SettingsError for a number that cannot be meant."""
        _check(self, 0.0)
        if self.refresh_seconds <= 0:
            raise SettingsError("RowCaps(refresh_seconds=…) needs a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRows:
    """Be how many open rows a participant's database holds, counted up to a limit, and how old its outbox is."""

    outbox_rows: int = 0
    waiting_deliveries: int = 0
    open_runs: int = 0
    outbox_age_seconds: float = 0.0


def overload(rows: OpenRows, caps: RowCaps) -> str:
    """Return why no saga may be started, "" while one may."""
    found = (
        (rows.outbox_rows, caps.outbox_rows, "outbox_rows", "rows wait in the outbox to be published"),
        (rows.waiting_deliveries, caps.waiting_deliveries, "waiting_deliveries", "deliveries wait for another attempt"),
        (rows.open_runs, caps.open_runs, "open_runs", "runs wait for an answer from outside"),
    )
    for count, cap, name, what in found:
        if cap is not None and count >= cap:
            return f"{cap} {what} or more, and RowCaps({name}={cap}) lets no saga start until there are fewer"
    return ""
