"""Turn the query of an address into what is asked of the reader, and back into addresses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from starlette.datastructures import QueryParams

from saga._core.sagas import OnEnd, SagaFilter
from saga.errors import SettingsError

MAX_TEXT = 200
TEXTS = ("text", "saga", "tenant", "key", "saga_id", "step", "error")
TIMES = ("started_from", "started_before", "ended_from", "ended_before")
MORE = ("tenant", "key", "step", "error", "version", *TIMES)
"""Fields that are folded away until one of them is used."""

SAGA_FIELDS = frozenset({*TEXTS, *TIMES, "q", "phase", "on_end", "version", "after"})
"""What the address of a list of sagas may hold."""

Query = Mapping[str, object]


def only_known(given: Mapping[str, str], known: Collection[str]) -> None:
    """Check that an address asks for nothing that would be left out of account; raises SettingsError."""
    for name in given:
        if name not in known:
            raise SettingsError(f"nothing is called {name[:40]!r} here: write {', '.join(sorted(known))}")


def saga_filter(given: QueryParams) -> SagaFilter:
    """Return the filter that an address or a form names; raises SettingsError for nonsense in it."""
    phases = [phase for phase in given.getlist("phase") if phase]
    version = text_of(given, "version")
    if version and not (version.isascii() and version.isdigit() and len(version) < 10):  # noqa: PLR2004 - an int4
        raise SettingsError(f"version {version!r} is no number: write 1 or 2, or leave it empty")
    return SagaFilter(
        text=text_of(given, "text") or text_of(given, "q"),  # what one types by hand
        phases=tuple(dict.fromkeys(phases)),
        on_end=_on_end(given),
        saga=text_of(given, "saga"),
        version=int(version or 0),
        tenant=text_of(given, "tenant"),
        key=text_of(given, "key"),
        saga_id=text_of(given, "saga_id"),
        step=text_of(given, "step"),
        error=text_of(given, "error"),
        started_from=_time_of(given, "started_from"),
        started_before=_time_of(given, "started_before"),
        ended_from=_time_of(given, "ended_from"),
        ended_before=_time_of(given, "ended_before"),
    )


def query_of(wanted: SagaFilter) -> dict[str, object]:
    """Return the query of an address that asks for a filter."""
    query: dict[str, object] = {name: getattr(wanted, name) for name in TEXTS}
    query |= {name: field_time(getattr(wanted, name)) for name in TIMES}
    return {
        name: value
        for name, value in (
            query | {"phase": list(wanted.phases), "on_end": wanted.on_end.value, "version": wanted.version or ""}
        ).items()
        if value not in ("", [])
    }


def is_more(wanted: SagaFilter) -> bool:
    """Return whether a field that is folded away is in use."""
    return any(getattr(wanted, name) for name in MORE)


def text_of(given: Mapping[str, str], name: str) -> str:
    """Return a field without the blanks around it; raises SettingsError for one that is too long."""
    value = given.get(name, "").strip()
    if len(value) > MAX_TEXT:
        raise SettingsError(f"{name} is longer than {MAX_TEXT} characters: write less of it")
    if "\x00" in value:
        raise SettingsError(f"{name} holds a zero byte, which no database can look for")
    return value


def page_of(given: Mapping[str, str]) -> str:
    """Return the token of the page asked for; raises SettingsError for one that cannot be."""
    token = given.get("after", "")
    if len(token) > MAX_TEXT * 4:
        raise SettingsError("this is no place in a list: go back to its first page")
    return token


def field_time(when: datetime | None) -> str:
    """Return a time as a field of a form has it, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00") if when is not None else ""


def _on_end(given: Mapping[str, str]) -> OnEnd:
    value = text_of(given, "on_end")
    try:
        return OnEnd(value)
    except ValueError:
        raise SettingsError(f"on_end={value!r} is none: write {OnEnd.FAILS}, or leave it out") from None


def _time_of(given: Mapping[str, str], name: str) -> datetime | None:
    value = text_of(given, name)
    if not value:
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingsError(f"{name}={value!r} is no time: write 2026-01-31T12:00, in UTC") from None
