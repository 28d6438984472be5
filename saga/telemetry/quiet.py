"""Say once a minute that telemetry does not arrive, and what to change; the SDK says so for every attempt."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

log = logging.getLogger("saga")

INTERVAL_SECONDS = 60.0
LOGGER = "opentelemetry.exporter.otlp.proto.http.{}_exporter"
_MOST_CAUSES = 100
_MOST_CHARACTERS = 200
_ABOUT_SENDING = re.compile(r"transient error|failed to export|aborting retry", re.IGNORECASE)
_SYSTEM_ERROR = re.compile(
    r"\[Errno -?\d+\] [\w ,]+|CERTIFICATE_VERIFY_FAILED[^(]*|(?:Read|connect) timed? ?out", re.IGNORECASE
)
_REFUSED = frozenset(("401", "403"))
_NOT_TAKEN = frozenset(("404", "405"))


class Quieter(logging.Filter):
    """Hold back what the SDK says about sending, and say it instead: each cause once in `interval_seconds`.

    `kind` is `trace` or `metric`, `address` where they are sent to. All other records go on.
    """

    def __init__(
        self,
        kind: str,
        address: str,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._kind = kind
        self._address = address
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._told: dict[str, float] = {}
        self._held = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide whether the record goes on."""
        if not _ABOUT_SENDING.search(str(record.msg)):
            return True
        now, cause = self._clock(), cause_of(record)
        # That all attempts have failed, and that it ends, says no cause: it has been told with the attempts.
        last = self._told.get(cause) if cause else max(self._told.values(), default=None)
        if last is not None and now - last < self._interval_seconds:
            self._held += 1
            return False
        if len(self._told) >= _MOST_CAUSES:
            self._told.clear()
        self._told[cause] = now
        more, self._held = f" ({self._held} more like it)" if self._held else "", 0
        said = cause or record.getMessage().rstrip(".")
        log.warning("%ss do not reach %s: %s. %s%s", self._kind, self._address, said, _advice(self._kind, cause), more)
        return False


def cause_of(record: logging.LogRecord) -> str:
    """Return why something was not sent: the system's error, the HTTP status with its reason, or what the SDK says."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    status = next((str(each) for each in arguments if isinstance(each, int)), "")
    said = next((each for each in arguments if isinstance(each, BaseException)), None)
    if said is None and "code" in str(record.msg):
        return f"{status} {arguments[-1]}"[:_MOST_CHARACTERS].strip() if arguments else ""
    if said is None:
        return str(arguments[0])[:_MOST_CHARACTERS] if arguments and "error" in str(record.msg).lower() else ""
    found = _SYSTEM_ERROR.search(str(said))
    return found[0].strip() if found else f"{type(said).__name__}: {said}"[:_MOST_CHARACTERS]


def _advice(kind: str, cause: str) -> str:
    status, none = cause.partition(" ")[0], f"OTEL_{kind.upper()}S_EXPORTER=none"
    if status in _REFUSED:
        return "Set OTEL_EXPORTER_OTLP_HEADERS to what it asks for"
    if status in _NOT_TAKEN:
        return f"It takes no {kind}s there: set OTEL_EXPORTER_OTLP_{kind.upper()}S_ENDPOINT to where it does, or {none}"
    return f"Is a collector there? Set OTEL_EXPORTER_OTLP_ENDPOINT to its HTTP port (usually 4318), or {none}"


def quiet(kind: str) -> None:
    """Say once a minute that nothing arrives, instead of the SDK's exporter for `kind`, `trace` or `metric`."""
    logger = logging.getLogger(LOGGER.format(kind))
    for each in [each for each in logger.filters if isinstance(each, Quieter)]:
        logger.removeFilter(each)
    logger.addFilter(Quieter(kind, _address(kind)))


def _address(kind: str) -> str:
    """Return where a kind is sent to, without the password."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{kind.upper()}S_ENDPOINT", "").strip()
    general = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip().rstrip("/")
    parts = urlsplit(own or f"{general}/v1/{kind}s")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
