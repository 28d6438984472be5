"""Decide who holds an entity of a service: at most one saga, from the step that takes it until that saga has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from saga._core.bodies import Outcome
from saga._core.words import Ending, Standing
from saga.errors import DeclarationError

ENTITY_BYTES = 512


class Otherwise(StrEnum):
    """Say what a step does about an entity that another saga holds.

    WAIT: it runs again once the entity is free. QUEUE: likewise, and nobody who has asked later comes before it.
    REFUSE: LockHeld is raised at once.
    """

    WAIT = "wait"
    QUEUE = "queue"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class EntityLock:
    """Name a kind of entity that sagas hold at one service; made by `service.lock("sku")`."""

    service: str
    kind: str

    def __str__(self) -> str:
        """Return it as messages print it."""
        return f"{self.service}.{self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """Be what one delivery asks for: an entity for its saga, until that has expired at the latest.

    `step` and `message_id` name the delivery, so that its place in the queue counts only as long as it waits.
    """

    kind: str
    entity: str
    saga_id: str
    step: str
    message_id: str
    otherwise: Otherwise
    timeout: timedelta | None
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LockView:
    """Be what is stored of one entity, read once nobody else can change it.

    `holder` is a saga's ID, "" when nobody has it; `expires_at` and `keep_until` are the holder's. `ahead` is the first
    saga in the queue that comes before the request, "" when none does. `since` is when its delivery began to wait.
    """

    now: datetime
    holder: str = ""
    expires_at: datetime | None = None
    keep_until: datetime | None = None
    ahead: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Say that the entity is free for the saga and is to be stored as held by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """Say that the saga holds the entity already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Say that saga `by` holds the entity, or comes before, and that the request does not wait (any longer)."""

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Say that the request waits for saga `by`, and when to look again should nobody wake it."""

    by: str
    again_seconds: float


Verdict = Granted | Mine | Held | Waits


def decide_lock(view: LockView, request: LockRequest, poll_seconds: float) -> Verdict:
    """Return what a request comes to.

    An entity whose holder has expired is free. A free one is promised to who waits in the queue; whoever asks later,
    in whatever way, waits behind.
    """
    if view.holder == request.saga_id and not _expired(view):
        return Mine()
    by = view.ahead if not view.holder or _expired(view) else view.holder
    if not by:
        return Granted()
    if request.otherwise is Otherwise.REFUSE:
        return Held(by=by)
    if request.timeout is None:
        return Waits(by=by, again_seconds=poll_seconds)
    left = (view.since or view.now) + request.timeout - view.now
    if left <= timedelta():
        return Held(by=by)
    return Waits(by=by, again_seconds=min(poll_seconds, left.total_seconds()))


def _expired(view: LockView) -> bool:
    ends = [at for at in (view.expires_at, view.keep_until) if at is not None]
    return bool(ends) and view.now >= max(ends)


def frees(outcome: Outcome) -> bool:
    """Return whether a saga that ended so lets go of what it holds.

    A stuck one does not. A child saga that has completed may still be undone with its parent.
    """
    if outcome.ending is Ending.COMPLETED:
        return outcome.standing is Standing.FINAL
    return outcome.ending is Ending.COMPENSATED


def check_request(lock: EntityLock, entity: str, service: str, timeout: timedelta | None) -> None:
    """Raise DeclarationError for a lock of another service, an entity no database can store, a timeout of nothing."""
    if lock.service != service:
        msg = f"{lock} is a lock of another service; declare one at this one: `{service}.lock({lock.kind!r})`"
        raise DeclarationError(msg)
    if not isinstance(entity, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers may be untyped
        msg = f"{lock}: {entity!r} is no entity: give its ID as text, such as str({entity!r})"
        raise DeclarationError(msg)
    if not entity.isprintable() or not 0 < len(entity.encode()) <= ENTITY_BYTES:
        msg = f"{lock}: {entity[:80]!r} cannot be locked: give the entity's ID as printable text of 1 to 512 bytes"
        raise DeclarationError(msg)
    if timeout is not None and timeout <= timedelta():
        msg = f"{lock}: a timeout of {timeout} never waits; write otherwise=Otherwise.REFUSE instead"
        raise DeclarationError(msg)
