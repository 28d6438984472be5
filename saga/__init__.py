"""Declare business transactions that cross services: all of it happens, or all of it is undone.

This module holds what declarations need. `saga.app` runs them, `saga.testing` tries them out.
"""

from __future__ import annotations

from saga._core.batch import Batch, Runs
from saga._core.breaker_settings import Breaker
from saga._core.declare import Service
from saga._core.definition import Dependency, Saga, TurnDown
from saga._core.events import PII, Event, Refusal, Secret
from saga._core.locks import EntityLock, Otherwise
from saga._core.receive import Receive
from saga._core.retry import Retry
from saga._core.run import Database, Ended, Run
from saga._core.start import Start, WhenOpen
from saga._core.step import NOT_FOUND, NOTHING, ChildStep, NotFound, Step
from saga._core.words import Cause, Ending, Priority, Purpose, StepKind, Verdict
from saga.errors import (
    CommitUnknown,
    Conflict,
    Contended,
    DeclarationError,
    KeyConflict,
    LockHeld,
    NotRunning,
    OutcomePending,
    Overloaded,
    Permanent,
    PlanError,
    PlanUnknown,
    PositionLost,
    Revoked,
    SagaError,
    SchemaMismatch,
    SettingsError,
    StillSealed,
    StoreError,
    StoreUnavailable,
    TooLarge,
    Transient,
    TransportError,
    TransportRefused,
    TransportUnavailable,
    Undecodable,
    VerbRefused,
)

__all__ = [
    "NOTHING",
    "NOT_FOUND",
    "PII",
    "Batch",
    "Breaker",
    "Cause",
    "ChildStep",
    "CommitUnknown",
    "Conflict",
    "Contended",
    "Database",
    "DeclarationError",
    "Dependency",
    "Ended",
    "Ending",
    "EntityLock",
    "Event",
    "KeyConflict",
    "LockHeld",
    "NotFound",
    "NotRunning",
    "Otherwise",
    "OutcomePending",
    "Overloaded",
    "Permanent",
    "PlanError",
    "PlanUnknown",
    "PositionLost",
    "Priority",
    "Purpose",
    "Receive",
    "Refusal",
    "Retry",
    "Revoked",
    "Run",
    "Runs",
    "Saga",
    "SagaError",
    "SchemaMismatch",
    "Secret",
    "Service",
    "SettingsError",
    "Start",
    "Step",
    "StepKind",
    "StillSealed",
    "StoreError",
    "StoreUnavailable",
    "TooLarge",
    "Transient",
    "TransportError",
    "TransportRefused",
    "TransportUnavailable",
    "TurnDown",
    "Undecodable",
    "VerbRefused",
    "Verdict",
    "WhenOpen",
]
