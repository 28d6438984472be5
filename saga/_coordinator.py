"""Say how an app is to run a coordinator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outbox.urls import Engine
from saga._runtime.coordinator_tuning import CoordinatorTuning
from saga._runtime.drift import DriftTuning
from saga.ports import CoordinationStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Ask an app to run a coordinator.

    `plans` is the folder of plan files to publish; None makes the plans in memory from the app's own
    services, which is right exactly when all of them are in this app. `store` is the URL of the
    coordinator's database; None uses the app's.
    """

    plans: str | Path | None = None
    store: str | Engine | CoordinationStore | None = None
    tuning: CoordinatorTuning | None = None
    drift: DriftTuning | None = None
