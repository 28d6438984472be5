"""Quiet the client library's log: it repeats the same line for every try, and at debug level it tells secrets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

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
        ".coordinator.assignors.roundrobin",
        ".helpers",
    )
)
_MOST_TEMPLATES = 200
_PASSING = ("Group Coordinator Request failed: %s", "Marking the coordinator dead (node %s)for group %s.")
"""What a broker that has just started makes the library say; it passes within seconds."""


class Quieter(logging.Filter):
    """Let one record of each message template through per interval, and tell how many were held back.

    Of what passes by itself the first interval is held back altogether.
    What is sent to log in (it has the password) never goes on, at whatever level.
    """

    def __init__(self, interval_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide whether the record goes on."""
        if record.levelno < logging.WARNING:
            arguments = record.args if isinstance(record.args, tuple) else ()
            return not any("Sasl" in type(one).__name__ for one in arguments)
        now, template = self._clock(), str(record.msg)
        unknown = now if template in _PASSING else now - self._interval_seconds
        last, held = self._last.get(template, (unknown, 0))
        if now - last < self._interval_seconds:
            self._last[template] = (last, held + 1)
            return False
        if len(self._last) >= _MOST_TEMPLATES:
            self._last.clear()
        self._last[template] = (now, 0)
        if held:
            record.msg, record.args = f"{record.getMessage()} ({held} more like it)", ()
        return True


_installed: list[Quieter] = []


def install() -> None:
    """Put the filter on the library's loggers, once for the process, and hear no less than warnings from them.

    Whoever has set a level for `aiokafka` keeps it.
    """
    if not _installed:
        if logging.getLogger("aiokafka").level == logging.NOTSET:
            logging.getLogger("aiokafka").setLevel(logging.WARNING)
        _installed.append(Quieter())
        for name in LOGGERS:
            logging.getLogger(name).addFilter(_installed[0])
