"""Turn settings into what an app takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict

from outbox.urls import Engine
from saga._coordinator import Coordinator
from saga._core.declare import Service
from saga._core.keeping import Publishing, Retention, RowCaps
from saga._runtime.context import Tuning
from saga._runtime.outgrown import MissingSteps
from saga._runtime.sealing import ClaimCheck
from saga.errors import SettingsError
from saga.ports import Store, Tracer, Transport
from saga.ports.metering import Meter
from saga.ports.sealing import PayloadCodec
from saga.settings import Settings, read_settings

log = logging.getLogger("saga")

__all__ = ["AppOptions", "arranged", "check_runs", "settings_here"]

_DATABASE = "postgresql://user@host/database"


class AppOptions(TypedDict, total=False):
    """Name what an app takes that no environment can say; open adapters and engines go before its URLs."""

    store: str | Engine | Store
    transport: str | Transport
    tuning: Tuning
    tracer: Tracer
    meter: Meter
    missing_steps: MissingSteps
    retention: Retention
    row_caps: RowCaps
    publishing: Publishing
    codec: PayloadCodec
    claim_check: ClaimCheck


def check_runs(services: Sequence[Service], store: object, coordinator: Coordinator | None) -> None:
    """Raise SettingsError for an app that has nothing to run, or services without a database."""
    if services and store is None:
        raise SettingsError(
            "App(store=None): services need a database; write store='sqlite:///file.db' or 'postgresql://…'"
        )
    if not services and coordinator is None:
        raise SettingsError("App() has nothing to run: give it services, a Coordinator(), or both")


def settings_here() -> Settings:
    """Read the environment, and log what may be misspelled in it; raises SettingsError."""
    reading = read_settings()
    for warning in reading.warnings:
        log.warning("%s", warning)
    return reading.settings


def arranged(
    settings: Settings, services: Sequence[Service], coordinator: Coordinator | None, options: AppOptions
) -> dict[str, Any]:
    """Return the arguments of an app for these services and that coordinator; `options` go before settings.

    What a coordinator leaves open, its plans and its database, comes from the settings. Raises SettingsError naming
    the variable that is missing or cannot be meant.
    """
    if "store" not in options and services and not settings.store:
        raise SettingsError(
            f"SAGA_STORE is not set: services need a database, such as {_DATABASE} or sqlite:///file.db "
            "(or name a file with the URL by SAGA_STORE_FILE)"
        )
    if "transport" not in options and not settings.transport:
        raise SettingsError("SAGA_TRANSPORT is not set: write kafka://host:port, or memory:// for a single process")
    is_alone = str(options.get("transport", settings.transport)).startswith("memory:")
    if is_alone and not (services and coordinator is not None):
        raise SettingsError(
            "SAGA_TRANSPORT=memory:// ends at this process, but services and coordinator are not both in it: write "
            "kafka://host:port, or run everything in one process (`saga dev`)"
        )
    return {
        "store": settings.store_url or None if services else None,
        "transport": settings.transport,
        "coordinator": None if coordinator is None else _coordinator(settings, services, coordinator),
        "slot": settings.slot,
        "plans_timeout_seconds": settings.plans_timeout_seconds,
        "store_timeout_seconds": settings.store_timeout_seconds,
        "transport_timeout_seconds": settings.transport_timeout_seconds,
        "drain_seconds": settings.drain_seconds,
        "partitions": settings.partitions,
        "migrate": settings.migrate,
        **options,
    }


def _coordinator(settings: Settings, services: Sequence[Service], given: Coordinator) -> Coordinator:
    plans = given.plans or settings.plans or None
    if plans is None and not services:
        raise SettingsError("SAGA_PLANS is not set: name the folder of the plan files that `saga plan` has written")
    own = settings.coordinator_url if settings.coordinator_store or not services else None
    store = given.store or own
    if not store and not services:
        raise SettingsError(
            f"SAGA_COORDINATOR_STORE is not set: the coordinator needs a database, such as {_DATABASE} "
            "(or name a file with the URL by SAGA_COORDINATOR_STORE_FILE)"
        )
    return replace(given, plans=plans, store=store or None)
