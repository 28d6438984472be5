"""Be a process that serves an app and nothing else: its log, its telemetry, its health, its signals."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

from saga._http import Address, Asgi, serve_http
from saga._runtime.supervise import bare
from saga._serving import serve, until_told
from saga.app import App
from saga.health import health_app
from saga.settings import LogFormat, Settings
from saga.telemetry import configure_from_env
from saga.telemetry.logs import configure_logging

log = logging.getLogger("saga")


def prepare(settings: Settings, name: str) -> Callable[[], None]:
    """Set up the log, and export traces and metrics as the usual OTEL_* variables say; return what flushes them.

    Raises SettingsError for a missing extra.
    """
    configure_logging(settings.log_level, "json" if settings.log_format is LogFormat.JSON else "text")
    return configure_from_env(name)


@asynccontextmanager
async def with_health(app: App, health: Address | None) -> AsyncGenerator[None]:
    """Run an app, and tell how it is at `/livez` and `/readyz`, also while it comes up and ends."""
    async with serving(health_app(app), health, "/livez and /readyz"), app:
        yield


@asynccontextmanager
async def serving(site: Asgi, address: Address | None, what: str) -> AsyncGenerator[Address | None]:
    """Serve an ASGI application for as long as the context lasts; nothing without an address. Raises SettingsError."""
    if address is None:
        yield None
        return
    with bare():
        async with anyio.create_task_group() as tasks:
            bound: Address = await tasks.start(serve_http, site, address)
            log.info("http://%s answers %s", bound, what)
            yield bound
            tasks.cancel_scope.cancel()


def serve_app(app: App, settings: Settings, name: str, began: Callable[[], None] = lambda: None) -> None:
    """Serve an app until SIGTERM or SIGINT, as `App.serve` does, with all that a process has around it; blocks.

    Calls `began` once the app is up.
    """
    flush = prepare(settings, name)
    try:
        serve(lambda: until_told(with_health(app, settings.health), began))
    finally:
        flush()
