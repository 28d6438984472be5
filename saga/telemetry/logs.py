"""Write log records as JSON, one object a line; or as text, with the same care for what an error says."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal

import orjson

from saga._runtime.trouble import shown

__all__ = ["JsonFormatter", "TextFormatter", "configure_logging"]

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_OURS: Final = ("saga_id", "saga_name", "saga_step", "traceparent")
_STANDARD: Final = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", *_OURS))
_TEXT: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"
_TRACEPARENT_PARTS: Final = 4


class TextFormatter(logging.Formatter):
    """Write a record as a line of text.

    Of an error that comes from pydantic, which quotes what it was given, only the fields are named.
    """

    def __init__(self, fmt: str = _TEXT) -> None:
        """Write by a format of `logging`'s."""
        super().__init__(fmt)

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - the name is logging's
        """Return the traceback of an error, without the values in it."""
        error = ei[1]
        if error is None:
            return super().formatException(ei)
        fit = shown(error, {})
        return super().formatException((type(fit), fit, fit.__traceback__))


class JsonFormatter(TextFormatter):
    """Write a record as one JSON object: time, level, logger, message, and what is known of the rest.

    `saga_id`, `saga`, `step`, `trace_id` and `span_id` are there for what saga says of a saga; in a handler they come
    from the span that is open, where one is recorded. `exception` is a traceback, `extra` whatever else was given.
    """

    def __init__(self) -> None:
        """Look for OpenTelemetry once."""
        super().__init__()
        self._ambient = _ambient()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break in it."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        found |= self._about(record)
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if extra := {name: value for name, value in vars(record).items() if name not in _STANDARD}:
            found["extra"] = extra
        try:
            return orjson.dumps(found, default=str, option=_OPTIONS).decode()
        except TypeError:  # half a surrogate pair, or something that holds itself
            return json.dumps({name: str(value) for name, value in found.items()})

    def _about(self, record: logging.LogRecord) -> dict[str, str]:
        """Return which saga, step and span a record is about, as far as that is known."""
        parts = str(getattr(record, "traceparent", "")).split("-")
        trace_id, span_id = parts[1:3] if len(parts) == _TRACEPARENT_PARTS else ("", "")
        told = {
            "saga_id": str(getattr(record, "saga_id", "")),
            "saga": str(getattr(record, "saga_name", "")),
            "step": str(getattr(record, "saga_step", "")),
            "trace_id": trace_id,
            "span_id": span_id,
        }
        if not any(told.values()):
            told = self._ambient()
        return {name: value for name, value in told.items() if value}


_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


def configure_logging(level: str = "info", format: Literal["text", "json"] = "text") -> None:  # noqa: A002 - its name
    """Log to stderr from `level` on, as text or as JSON; for a process of its own, in the place of what was set before.

    Raises ValueError for a level that `logging` does not know.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _ambient() -> Callable[[], dict[str, str]]:
    """Return what says which span is open here; nothing is, without OpenTelemetry."""
    try:
        from saga.telemetry.ambient import ambient_ids  # noqa: PLC0415 - the core install has no opentelemetry
    except ModuleNotFoundError:
        return dict[str, str]
    return ambient_ids
