"""Declare business transactions that cross services: all of it happens, or all of it is undone.

This module holds what declarations need. `saga.app` runs them, `saga.testing` tries them out.
"""

from __future__ import annotations

from saga._core.declare import Service
from saga._core.definition import Dependency, Saga
from saga._core.events import Event, Refusal
from saga._core.retry import Retry
from saga._core.run import Database, Ended, Run
from saga._core.start import Start
from saga._core.step import NOTHING, Step
from saga._core.words import Cause, Ending, Purpose
from saga.errors import (
    CommitUnknown,
    Conflict,
    Contended,
    DeclarationError,
    KeyConflict,
    NotRunning,
    OutcomePending,
    Overloaded,
    PlanError,
    PlanUnknown,
    PositionLost,
    Revoked,
    SagaError,
    SettingsError,
    StoreError,
    StoreUnavailable,
    TooLarge,
    TransportError,
    TransportRefused,
    TransportUnavailable,
    Undecodable,
)

__all__ = [
    "NOTHING",
    "Cause",
    "CommitUnknown",
    "Conflict",
    "Contended",
    "Database",
    "DeclarationError",
    "Dependency",
    "Ended",
    "Ending",
    "Event",
    "KeyConflict",
    "NotRunning",
    "OutcomePending",
    "Overloaded",
    "PlanError",
    "PlanUnknown",
    "PositionLost",
    "Purpose",
    "Refusal",
    "Retry",
    "Revoked",
    "Run",
    "Saga",
    "SagaError",
    "Service",
    "SettingsError",
    "Start",
    "Step",
    "StoreError",
    "StoreUnavailable",
    "TooLarge",
    "TransportError",
    "TransportRefused",
    "TransportUnavailable",
    "Undecodable",
]
