"""Judge a dependency for the whole fleet from what its participants report, and write both down (`saga.breakers`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

import orjson

from saga._core.breaker import FIRST_SHARE, Phase
from saga._core.envelope import Delivery, Message
from saga._core.fields import load_object, name_in, number_in, word_in
from saga._core.limits import Limits, check_delivery
from saga._core.times import format_time, parse_time
from saga._core.topics import BREAKERS
from saga.errors import Undecodable

LONGEST_WORD_SECONDS = 30.0
"""How long a verdict is obeyed at most, whatever it says: after that it has to be repeated."""
_PHASES = {phase.value: phase for phase in (Phase.CLOSED, Phase.OPEN, Phase.RECOVERING)}
_MOST_CALLS = 10**9
_CANARIES = 3
"""As few calls tell that a release has begun too early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReport:
    """Tell what one replica of a service has met in about a second of calling a dependency."""

    dependency: str
    service: str
    slot: str
    calls: int
    failures: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetVerdict:
    """Say how the fleet treats a dependency, until a time; `share` is what it gets of its calls, in per cent."""

    dependency: str
    phase: Phase
    share: int
    valid_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRules:
    """Hold the numbers a verdict comes from.

    Of the calls reported within `window_seconds`, once reports have come in for `settle_seconds` and hold
    `minimum_calls`, a share of `failure_rate` that failed opens. It lets go once the calls of the last
    `settle_seconds` are fine, in shares that grow by `release_growth` every `release_seconds`. A verdict is valid for
    `valid_seconds`, at most 30, and repeated every `renew_seconds`.
    """

    window_seconds: float = 10.0
    settle_seconds: float = 3.0
    minimum_calls: int = 20
    failure_rate: float = 0.5
    release_growth: float = 2.0
    release_seconds: float = 5.0
    valid_seconds: float = 15.0
    renew_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Be calls reported at a time of the reader's clock; reports of one second may be one."""

    at: float
    calls: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Be what a coordinator holds of a dependency since a time of its clock; closed is the rule."""

    phase: Phase = Phase.CLOSED
    share: float = 1.0
    since: float = 0.0


def judged(rules: FleetRules, standing: Standing, heard: Iterable[Heard], now: float) -> Standing:
    """Return how a dependency stands now; the same value when nothing has changed.

    Reports older than the longest verdict count for nothing. An open verdict is not kept up once nobody has failed for
    that long: where nobody calls, the participants' own breakers find out.
    """
    heard = [one for one in heard if one.at > now - LONGEST_WORD_SECONDS]
    match standing.phase:
        case Phase.CLOSED | Phase.HALF_OPEN:
            recent = [one for one in heard if one.at > max(now - rules.window_seconds, standing.since)]
            settled = any(one.at <= now - rules.settle_seconds for one in recent)
            if settled and _fails(rules, recent, rules.minimum_calls):
                return Standing(phase=Phase.OPEN, share=0.0, since=now)
            return standing
        case Phase.OPEN:
            recent = [one for one in heard if one.at > max(now - rules.settle_seconds, standing.since)]
            if sum(one.calls for one in recent) and not _fails(rules, recent, 1):
                return Standing(phase=Phase.RECOVERING, share=FIRST_SHARE, since=now)
            return standing if any(one.failures for one in heard) else Standing(since=now)
        case Phase.RECOVERING:
            return _released(rules, standing, heard, now)
        case _:
            assert_never(standing.phase)


def _released(rules: FleetRules, standing: Standing, heard: Iterable[Heard], now: float) -> Standing:
    recent = [one for one in heard if one.at > max(now - rules.window_seconds, standing.since)]
    if _fails(rules, recent, min(rules.minimum_calls, _CANARIES)):
        return Standing(phase=Phase.OPEN, share=0.0, since=now)
    if now - standing.since < rules.release_seconds:
        return standing
    share = standing.share * rules.release_growth
    return replace(standing, share=share, since=now) if share < 1 else Standing(since=now)


def _fails(rules: FleetRules, heard: Iterable[Heard], least: int) -> bool:
    heard = list(heard)
    calls = sum(one.calls for one in heard)
    return calls >= least and sum(one.failures for one in heard) >= rules.failure_rate * calls


def added(heard: tuple[Heard, ...], report: CallReport, now: float) -> tuple[Heard, ...]:
    """Return what was heard of a dependency with one more report: one value for each second, half a minute of them."""
    kept = tuple(one for one in heard if one.at > now - LONGEST_WORD_SECONDS)
    if kept and now - kept[-1].at < 1 and int(now) == int(kept[-1].at):
        last = kept[-1]
        same = replace(last, calls=last.calls + report.calls, failures=last.failures + report.failures)
        return (*kept[:-1], same)
    return (*kept, Heard(at=now, calls=report.calls, failures=report.failures))


def percent(share: float) -> int:
    """Return a share as it stands on the wire."""
    return round(share * 100)


# --- on the wire -----------------------------------------------------------------------------------------------


def report_message(report: CallReport) -> Message:
    """Return a report as it is sent; the newest of a replica replaces the one before."""
    body = {
        "kind": "report",
        "dependency": report.dependency,
        "service": report.service,
        "slot": report.slot,
        "calls": report.calls,
        "failures": report.failures,
        "at": format_time(report.at),
    }
    key = f"report/{report.dependency}/{report.service}-{report.slot}"
    return Message(topic=BREAKERS, key=key.encode(), value=orjson.dumps(body))


def verdict_message(verdict: FleetVerdict) -> Message:
    """Return a verdict as it is sent; the newest of a dependency replaces the one before."""
    body = {
        "kind": "verdict",
        "dependency": verdict.dependency,
        "state": verdict.phase.value,
        "share": verdict.share,
        "valid_until": format_time(verdict.valid_until),
    }
    return Message(topic=BREAKERS, key=f"verdict/{verdict.dependency}".encode(), value=orjson.dumps(body))


def read_breaker_message(delivery: Delivery, limits: Limits) -> CallReport | FleetVerdict:
    """Return what a message says; raises Undecodable for one over a limit before anything of it is decoded."""
    check_delivery(delivery, limits)
    body = load_object(delivery.value or b"")
    kind = word_in(body, "kind", {"report": CallReport, "verdict": FleetVerdict})
    dependency = name_in(body, "dependency")
    if kind is FleetVerdict:
        return FleetVerdict(
            dependency=dependency,
            phase=word_in(body, "state", _PHASES),
            share=number_in(body, "share", most=100),
            valid_until=parse_time(name_in(body, "valid_until"), "valid_until"),
        )
    calls = number_in(body, "calls", most=_MOST_CALLS)
    failures = number_in(body, "failures", most=_MOST_CALLS)
    if failures > calls:
        msg = f"failures is {failures}, but only {calls} calls are reported"
        raise Undecodable(msg)
    return CallReport(
        dependency=dependency,
        service=name_in(body, "service"),
        slot=name_in(body, "slot"),
        calls=calls,
        failures=failures,
        at=parse_time(name_in(body, "at"), "at"),
    )
