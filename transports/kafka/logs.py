"""Listen to the client library's log: it is the only place where a refused connection says why, and it is loud."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from saga.errors import TransportError, TransportRefused, TransportUnavailable

LOGGERS = tuple(
    f"aiokafka{name}"
    for name in (
        "",
        ".conn",
        ".cluster",
        ".admin.client",
        ".producer.producer",
        ".producer.sender",
        ".consumer.consumer",
        ".consumer.fetcher",
        ".consumer.group_coordinator",
        ".consumer.subscription_state",
    )
)
_FINAL = re.compile(
    r"AuthenticationFailed|Error 58|UnsupportedSaslMechanism|IllegalSaslState|AuthorizationFailed"
    r"|CERTIFICATE_VERIFY_FAILED|certificate|Hostname mismatch|WRONG_VERSION_NUMBER",
    re.IGNORECASE,
)
_reasons: ContextVar[list[str] | None] = ContextVar("kafka_reasons", default=None)


@contextmanager
def overheard() -> Generator[list[str]]:
    """Collect the warnings and errors the library logs in this context."""
    found: list[str] = []
    token = _reasons.set(found)
    try:
        yield found
    finally:
        _reasons.reset(token)


def failure(what: str, reasons: Sequence[str], error: BaseException | None = None) -> TransportError:
    """Build the error for a failed connection: refused where retrying cannot mend it, else unavailable."""
    told = "; ".join(dict.fromkeys(reasons[-4:])) or (
        f"{type(error).__name__}: {error}" if error else "no answer in time"
    )
    kind = TransportRefused if _FINAL.search(told) else TransportUnavailable
    return kind(f"{what}: {told}")


class Quieter(logging.Filter):
    """Let one record of each message template through per interval, and tell how many were held back."""

    def __init__(self, interval_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Collect the reason, then decide whether the record goes on."""
        if record.levelno < logging.WARNING:
            return True
        heard = _reasons.get()
        if heard is not None:
            heard.append(record.getMessage())
        now, template = self._clock(), str(record.msg)
        last, held = self._last.get(template, (-self._interval_seconds, 0))
        if now - last < self._interval_seconds:
            self._last[template] = (last, held + 1)
            return False
        self._last[template] = (now, 0)
        if held:
            record.msg, record.args = f"{record.getMessage()} ({held} more like it)", ()
        return True


_installed: list[Quieter] = []


def install() -> None:
    """Put the filter on the library's loggers, once for the process."""
    if not _installed:
        _installed.append(Quieter())
        for name in LOGGERS:
            logging.getLogger(name).addFilter(_installed[0])
