"""Hold one saga as all databases together tell of it, and its payloads as somebody may see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from saga._core.audit import AuditRow
from saga._core.inspecting import SagaRows
from saga._core.plan import Plan
from saga._core.queues import Problem
from saga._core.rows import InstanceRow
from saga._core.sagas import SagaLine


class Payloads(StrEnum):
    """Say whether somebody may see payloads."""

    HIDDEN = "hidden"
    ALLOWED = "allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaWhole:
    """Be one saga with everything that all databases keep of it, without payloads.

    `row` is the coordinator's, its refusals without their payload. `plan` is None when the coordinator has not stored
    it. `rows` are those of all databases together, and `places[service]` names the database a service's rows are in.
    `trace_id` is "" for a saga that nobody has recorded. `children` are IDs of child sagas that its runs have
    started, `parent` is the saga that has started it, "" for none.
    `revision` is another one whenever something of it has changed. `missing` are the databases that did not answer.
    """

    row: InstanceRow
    line: SagaLine
    plan: Plan | None
    rows: SagaRows
    places: Mapping[str, str]
    audits: tuple[AuditRow, ...]
    trace_id: str
    parent: str
    children: tuple[str, ...]
    revision: str
    now: datetime
    missing: tuple[Problem, ...] = ()


class Shown(StrEnum):
    """Say what one sees of a payload, and why not more."""

    WHOLE = "whole"
    REDACTED = "redacted"
    HIDDEN = "hidden"
    SEALED = "sealed"
    ELSEWHERE = "elsewhere"
    UNKNOWN = "unknown"
    LARGE = "large"
    UNREADABLE = "unreadable"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadView:
    """Be a payload as somebody may see it; `text` is indented JSON, "" unless it is WHOLE or REDACTED.

    HIDDEN: not allowed. SEALED: nobody has opened it here, and nobody will. ELSEWHERE: it lies in a blob. UNKNOWN:
    nobody here knows which of its fields are marked `PII` or `Secret`. LARGE: over 64 KiB.
    """

    shown: Shown
    type: str = ""
    bytes: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPayloads:
    """Be what one run has taken and given, event by event, at most fifty of each; a refusal is its result."""

    service: str
    step: str
    branch: str
    inputs: tuple[PayloadView, ...]
    results: tuple[PayloadView, ...]
