"""Hold what a person asks of the sagas that a coordinator knows, and the lines of the answer."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson

from saga._core.inspecting import InstancePlace
from saga._core.instance import ENDED, Phase
from saga._core.stored_instance import STUCK_PHASE
from saga._core.times import format_time, parse_time
from saga.errors import SettingsError, Undecodable

OPEN_PHASES = (STUCK_PHASE, *(phase.value for phase in Phase if phase not in ENDED))
"""What the column `phase` says of a saga that has not ended; READY is a child that waits for its parent."""
ENDED_PHASES = tuple(phase.value for phase in Phase if phase in ENDED)
PHASES = (*OPEN_PHASES, *ENDED_PHASES)

COUNT_CAP = 10_001
"""How many matches are counted at most: whoever sees this many knows that there are more."""
ID_CHARS = 4
"""How much of an ID has to be typed before sagas are looked for by it."""

NO_PLACE = "this is no place in a list: go back to its first page"

_ID = re.compile(r"[0-9A-Za-z._:-]{4,}")
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STEP = re.compile(r"[\w-]+\.[\w-]+")


class OnEnd(StrEnum):
    """Say what is asked of the handler of a saga's end."""

    ANY = ""
    FAILS = "fails"


class Held(StrEnum):
    """Say whether a person holds a saga."""

    FREE = "free"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaFilter:
    """Say which sagas are meant: those that fit every field that is not empty; times are half open.

    `phases` are of `PHASES`. `saga_id` is an ID or how one begins (from four characters on). `key` is a business key:
    together with `saga` and `tenant` it names one saga, without a `saga` one of each name that has a plan. `step` is
    `service.function`, the step that has refused or failed, or that the saga is stuck at; `error` is a text in what is
    said of it, large and small letters alike. `text` is what somebody has typed into one box: an ID or how one
    begins, a key, a step, or a text in an error; whatever fits one of them fits. `on_end` is FAILS for sagas whose
    handler of the end keeps failing, which only the services' databases know.
    """

    text: str = ""
    phases: tuple[str, ...] = ()
    on_end: OnEnd = OnEnd.ANY
    saga: str = ""
    version: int = 0
    tenant: str = ""
    key: str = ""
    saga_id: str = ""
    step: str = ""
    error: str = ""
    started_from: datetime | None = None
    started_before: datetime | None = None
    ended_from: datetime | None = None
    ended_before: datetime | None = None

    def __post_init__(self) -> None:
        """Check what is asked; raises SettingsError."""
        if wrong := sorted(set(self.phases) - set(PHASES)):
            raise SettingsError(f"phase {wrong[0]!r} is none of {', '.join(PHASES)}")
        if self.saga_id and len(self.saga_id) < ID_CHARS:
            raise SettingsError(f"saga_id={self.saga_id!r} is too short: write at least {ID_CHARS} characters of it")


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaLine:
    """Be one saga in a list, without any payload.

    `phase` is one of `PHASES`. `step` and `error` say what has stopped or undone it, "" for one that nothing has.
    """

    saga_id: str
    saga: str
    version: int
    plan: str
    tenant: str
    phase: str
    step: str
    error: str
    held: Held
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaPage:
    """Be a page of a list: `after` is where the next one begins, "" behind the last."""

    lines: tuple[SagaLine, ...]
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaQuery:
    """Be a filter as a database is asked: `ids` are the IDs that the keys in it would have, `untold` those of `on_end`.

    `text` is split into how an ID may begin, and what an error or a step may hold; all three are looked for at once.
    """

    wanted: SagaFilter = SagaFilter()
    ids: tuple[str, ...] = ()
    text_ids: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def text_prefix(self) -> str:
        """Return how an ID may begin that was typed, "" when it was none."""
        text = self.wanted.text.strip()
        return text if _ID.fullmatch(text) is not None else ""

    @property
    def is_id(self) -> bool:
        """Return whether a whole ID was typed: then it is looked for nowhere else."""
        return _WHOLE_ID.fullmatch(self.wanted.text.strip()) is not None


def line_place(line: SagaLine) -> InstancePlace:
    """Return where a list goes on behind `line`."""
    return (line.started_at, line.saga_id)


def write_place(place: InstancePlace) -> str:
    """Return a place in a list as a token that nobody has to understand."""
    at, saga_id = place
    return write_token([None if at is None else format_time(at), saga_id])


def read_place(token: str) -> InstancePlace:
    """Return the place a token names; raises SettingsError for one that is none."""
    match read_token(token):
        case [None, str(saga_id)]:
            return (None, saga_id)
        case [str(at), str(saga_id)]:
            try:
                return (parse_time(at, "a place"), saga_id)
            except Undecodable:
                pass
        case _:
            pass
    raise SettingsError(NO_PLACE)


def write_token(value: object) -> str:
    """Return a JSON value as text for a URL."""
    return urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def read_token(token: str) -> object:
    """Return the value of `write_token`; raises SettingsError for what is none."""
    try:
        return orjson.loads(urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4)))
    except ValueError:
        raise SettingsError(NO_PLACE) from None


def step_in(text: str) -> str:
    """Return the step that a sentence about a saga begins with, "" when it names none."""
    found = _STEP.match(text)
    return found[0] if found is not None else ""


def values_of(line: SagaLine) -> Mapping[str, str | int | None]:
    """Return a line for CSV or JSON lines, times as RFC 3339 in UTC; the same keys in the same order for every line."""
    return {
        "saga_id": line.saga_id,
        "saga": line.saga,
        "version": line.version,
        "plan": line.plan,
        "tenant": line.tenant,
        "phase": line.phase,
        "step": line.step,
        "error": line.error,
        "held": line.held.value,
        "due_at": None if line.due_at is None else format_time(line.due_at),
        "started_at": None if line.started_at is None else format_time(line.started_at),
        "ended_at": None if line.ended_at is None else format_time(line.ended_at),
    }


def column_names() -> tuple[str, ...]:
    """Return the keys of `values_of`, in their order."""
    return (
        *("saga_id", "saga", "version", "plan", "tenant", "phase", "step", "error", "held"),
        *("due_at", "started_at", "ended_at"),
    )


def is_narrow(wanted: SagaFilter) -> bool:
    """Return whether a filter names sagas, or what is wrong with them: then only few are looked through."""
    return bool(wanted.text or wanted.key or wanted.saga_id or wanted.step or wanted.error or wanted.on_end)


def is_troubled(phases: Iterable[str]) -> bool:
    """Return whether sagas in every one of the phases have something said of what is wrong with them."""
    return all(phase in (STUCK_PHASE, Phase.COMPENSATED.value) for phase in phases)


def is_open(phases: Iterable[str]) -> bool:
    """Return whether every one of the phases is that of a saga that has not ended."""
    return all(phase in OPEN_PHASES for phase in phases)
