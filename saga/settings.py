"""Read what a process needs to know from the environment: `SAGA_STORE`, `SAGA_TRANSPORT` and the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from outbox.urls import open_store
from saga._environment import Found, near_misses, value_in
from saga._http import Address, parse_address
from saga._masking import Shown, masked, with_password
from saga.errors import SettingsError
from transports.urls import check_transport

__all__ = ["Address", "LogFormat", "LogLevel", "Origin", "Reading", "Settings", "Source", "read_settings"]

PREFIX = "SAGA_"


class LogLevel(StrEnum):
    """Name from which level on something is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogFormat(StrEnum):
    """Name how a line of the log looks."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Say what a setting takes, and how it may be shown; only what is not shown whole can come from a file."""

    like: str
    shown: Shown = Shown.WHOLE


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _address(value: object) -> object:
    if not isinstance(value, str) or not value:
        return value or None
    try:
        return parse_address(value, "")
    except SettingsError as error:
        raise ValueError(str(error)) from None  # the sentence is made with the variable's name, as for all others


Url = Annotated[str, Write(like="a URL", shown=Shown.URL)]
Password = Annotated[str, Write(like="a password", shown=Shown.NEVER)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Write(like="seconds above 0, such as 30")]
Listening = Annotated[Address | None, BeforeValidator(_address), Write(like="host:port, or a port of 127.0.0.1")]


class Settings(BaseModel):
    """Hold the settings of one process; what shows it masks passwords.

    `store`, `coordinator_store` and `transport` are URLs as an `App` takes them, "" where nothing is set; the
    passwords go into them (`store_url`, `coordinator_url`). Kafka's passwords are read by the transport itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    store: Url = ""
    store_password: Password = ""
    coordinator_store: Url = ""
    coordinator_store_password: Password = ""
    service_stores: Url = ""
    transport: Url = ""
    kafka_password: Password = ""
    kafka_key_password: Password = ""
    slot: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$"), Write(like="the replica's number, such as 0")] = "0"
    plans: Annotated[str, Write(like="the folder of the plan files")] = ""
    migrate: Annotated[bool, Write(like="yes or no")] = True
    partitions: Annotated[int, Field(gt=0, le=10_000), Write(like="a whole number above 0, such as 8")] = 8
    plans_timeout_seconds: Seconds = 30.0
    store_timeout_seconds: Seconds = 30.0
    transport_timeout_seconds: Seconds = 30.0
    drain_seconds: Seconds = 10.0
    log_level: Annotated[LogLevel, BeforeValidator(_lower), Write(like="one of " + ", ".join(LogLevel))] = LogLevel.INFO
    log_format: Annotated[LogFormat, BeforeValidator(_lower), Write(like="text or json")] = LogFormat.TEXT
    health: Listening = None
    console: Listening = None

    @property
    def store_url(self) -> str:
        """Return the URL of the services' database with its password, "" when there is none."""
        return with_password(self.store, self.store_password, f"{PREFIX}STORE")

    @property
    def coordinator_url(self) -> str:
        """Return the URL of the coordinator's database with its password: its own, else the services'."""
        if not self.coordinator_store:
            return self.store_url
        return with_password(self.coordinator_store, self.coordinator_store_password, f"{PREFIX}COORDINATOR_STORE")

    @property
    def service_urls(self) -> tuple[str, ...]:
        """Return the URLs of the services' databases that `service_stores` names, each once."""
        return tuple(dict.fromkeys(self.service_stores.split()))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield names and values, without passwords."""
        for name, field in type(self).model_fields.items():
            yield name, masked(getattr(self, name), write_of(field).shown)


class Source(StrEnum):
    """Name where a value comes from."""

    DEFAULT = "default"
    VARIABLE = "variable"
    FILE = "file"
    OPTION = "option"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Say where a value comes from: the variable (of the file's path, too) or the option, and the file."""

    source: Source = Source.DEFAULT
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Hold the settings, the origin of each by its name, and sentences about variables that may be misspelled."""

    settings: Settings
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()


def read_settings(environ: Mapping[str, str] | None = None, given: Mapping[str, object] | None = None) -> Reading:
    """Read the environment (`os.environ` by default), and let options that are `given` and not None go before it.

    `SAGA_<NAME>` is the setting's own variable; an empty one counts as not set. What is secret, or a URL that may hold
    a password, is also read from the file that `SAGA_<NAME>_FILE` names. Raises SettingsError with every variable that
    cannot be used and what to write instead.
    """
    environ, given = os.environ if environ is None else environ, given or {}
    fields = Settings.model_fields
    from_file = frozenset(name for name, field in fields.items() if write_of(field).shown is not Shown.WHOLE)
    values: dict[str, object] = {}
    origins: dict[str, Origin] = dict.fromkeys(fields, Origin())
    for name in fields:
        variable = variable_of(name)
        if given.get(name) is not None:
            values[name] = given[name]
            origins[name] = Origin(source=Source.OPTION, name="--" + name.replace("_", "-"))
        elif (found := value_in(environ, variable, with_file=name in from_file)) is not None:
            values[name] = found.text
            origins[name] = _origin(found)
    settings = _validated(values, origins)
    known = {variable_of(name) for name in fields} | {f"{variable_of(name)}_FILE" for name in from_file}
    return Reading(settings=settings, origins=origins, warnings=near_misses(environ, known, PREFIX))


def write_of(field: FieldInfo) -> Write:
    """Return what is written of a field."""
    return next(each for each in field.metadata if isinstance(each, Write))


def variable_of(name: str) -> str:
    """Return the variable of a setting."""
    return PREFIX + name.upper()


def _origin(found: Found) -> Origin:
    source = Source.FILE if found.path else Source.VARIABLE
    return Origin(source=source, name=found.variable, path=found.path)


def _validated(values: Mapping[str, object], origins: Mapping[str, Origin]) -> Settings:
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        names = [str(each["loc"][0]) for each in error.errors()]
        raise SettingsError("; ".join(_refusal(name, values, origins) for name in dict.fromkeys(names))) from None
    stores = [("store", settings.store), ("coordinator_store", settings.coordinator_store)]
    stores += [("service_stores", url) for url in settings.service_urls]
    for name, url in (*stores, ("transport", settings.transport)):
        if url:
            try:
                (check_transport if name == "transport" else open_store)(url)
            except SettingsError as error:
                raise SettingsError(f"{_said(name, origins)}: {error}") from None
    _ = settings.store_url, settings.coordinator_url
    return settings


def _refusal(name: str, values: Mapping[str, object], origins: Mapping[str, Origin]) -> str:
    write = write_of(Settings.model_fields[name])
    got = "" if write.shown is not Shown.WHOLE else f"={str(values[name])[:60]!r}"
    return f"{_said(name, origins)}{got} cannot be used: write {write.like}"


def _said(name: str, origins: Mapping[str, Origin]) -> str:
    """Return how a setting was given, else the variable to give it by."""
    return origins[name].name or variable_of(name)
