"""Let the processes of a fleet warn each other of a dependency that fails: topic `saga.breakers`.

Participants report, coordinators judge, participants obey. Everybody reads the whole topic, outside of any group.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from saga._core.breaker import FleetWord, Phase
from saga._core.envelope import Delivery, Message
from saga._core.fleet import (
    LONGEST_WORD_SECONDS,
    CallReport,
    FleetRules,
    FleetVerdict,
    Heard,
    Standing,
    added,
    judged,
    percent,
    read_breaker_message,
    report_message,
    verdict_message,
)
from saga._core.limits import Limits
from saga._core.start import Start, WhenOpen
from saga._core.topics import BREAKERS
from saga._runtime.throttle import Throttle
from saga.errors import Undecodable
from saga.ports import Publisher, Transport

log = logging.getLogger("saga")

SPEAK_SECONDS = 1.0
ECHO_SECONDS = 10.0
"""How long a replica that is fine itself reports along with one that is not, so that the sum is fair."""
MOST_DEPENDENCIES = 1000


def _wall() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Judged:
    """Be what a coordinator knows of one dependency."""

    standing: Standing
    heard: tuple[Heard, ...] = ()
    said_at: float = -LONGEST_WORD_SECONDS


class FleetJudge:
    """Judge the dependencies in one coordinator.

    Every coordinator hears every verdict and takes it over, so any of them goes on where another has stopped, and only
    the first one repeats a verdict.
    """

    def __init__(self, rules: FleetRules | None = None) -> None:
        """Know of no dependency."""
        self._rules = rules or FleetRules()
        self._known: dict[str, _Judged] = {}

    def hear(self, report: CallReport) -> None:
        """Take a report in."""
        known = self._of(report.dependency)
        known.heard = added(known.heard, report, anyio.current_time())

    def take_over(self, verdict: FleetVerdict) -> None:
        """Stand where a coordinator, this one or another, has just said."""
        known, now = self._of(verdict.dependency), anyio.current_time()
        known.said_at = now
        if (verdict.phase, verdict.share) != (known.standing.phase, percent(known.standing.share)):
            known.standing = Standing(phase=verdict.phase, share=verdict.share / 100, since=now)

    def verdicts(self, wall: datetime) -> Iterator[FleetVerdict]:
        """Yield what has to be said now: what has changed, and what must be repeated."""
        now, rules = anyio.current_time(), self._rules
        for dependency, known in list(self._known.items()):
            before, known.standing = known.standing, judged(rules, known.standing, known.heard, now)
            is_news = known.standing is not before
            if is_news:
                said = f"{known.standing.phase} ({percent(known.standing.share)} %)"
                log.warning("dependency %s: the fleet's verdict is %s", dependency, said)
            elif known.standing.phase is Phase.CLOSED or now - known.said_at < rules.renew_seconds:
                continue
            known.said_at = now
            yield FleetVerdict(
                dependency=dependency,
                phase=known.standing.phase,
                share=percent(known.standing.share),
                valid_until=wall + timedelta(seconds=min(rules.valid_seconds, LONGEST_WORD_SECONDS)),
            )

    def _of(self, dependency: str) -> _Judged:
        known = self._known.pop(dependency, None) or _Judged(Standing(since=anyio.current_time()))
        self._known[dependency] = known
        if len(self._known) > MOST_DEPENDENCIES:
            del self._known[next(iter(self._known))]
        return known


class Fleet:
    """Be this process's ear and voice: obey verdicts, report calls, judge where there is a coordinator.

    What was said lasts as the event loop's clock goes; the wall clock is only asked how old a message is.
    """

    def __init__(self, slot: str = "0", wall: Callable[[], datetime] = _wall) -> None:
        """Hear and say nothing yet."""
        self._slot = slot
        self._wall = wall
        self._limits = Limits()
        self._throttles: list[tuple[str, Throttle]] = []
        self._words: dict[str, FleetWord] = {}
        self._alarmed: dict[str, float] = {}
        self._listens = False
        self._news = anyio.Event()
        self.judge: FleetJudge | None = None

    def watch(self, service: str, throttles: Sequence[Throttle]) -> None:
        """Report the calls of a service's dependencies, and let them obey; those without a breaker do neither."""
        self._throttles += [(service, one) for one in throttles if one.dependency.breaker is not None]

    @property
    def is_needed(self) -> bool:
        """Return whether anything here reports, obeys, judges or asks."""
        return bool(self._throttles) or self.judge is not None or self._listens

    def listen_for(self, start: Start[Any]) -> None:
        """Be ready to say whether a saga may start."""
        self._listens = self._listens or start.when_open is not WhenOpen.LET_THROUGH

    def word(self, dependency: str) -> FleetWord | None:
        """Return what the fleet says of a dependency now, None when nothing."""
        word = self._words.get(dependency)
        return word if word is not None and anyio.current_time() < word.until else None

    def out(self, dependencies: Iterable[str]) -> tuple[str, float] | None:
        """Return which of these the fleet leaves alone now, and for how many seconds at least; None for none."""
        for name in dependencies:
            word = self.word(name)
            if word is not None and word.phase is Phase.OPEN:
                return name, word.until - anyio.current_time()
        return None

    async def news(self, at_most_seconds: float) -> None:
        """Return when a verdict has come in, or after a time."""
        with anyio.move_on_after(at_most_seconds):
            await self._news.wait()

    # --- the ear ---------------------------------------------------------------------------------------------

    async def follow(self, transport: Transport) -> None:
        """Take in what is said until cancelled."""
        async with transport.table(BREAKERS) as table:
            while True:
                for delivery in await table.changes(SPEAK_SECONDS):
                    if delivery.value is not None:
                        self._hear(delivery)

    def _hear(self, delivery: Delivery) -> None:
        try:
            said = read_breaker_message(delivery, self._limits)
        except Undecodable as error:
            log.warning("a message on %s cannot be read and is ignored: %s", BREAKERS, error)
            return
        now, wall = anyio.current_time(), self._wall()
        if isinstance(said, FleetVerdict):
            left = min(LONGEST_WORD_SECONDS, (said.valid_until - wall).total_seconds())
            if left > 0:
                self._obey(said, now + left)
        elif abs((wall - said.at).total_seconds()) < LONGEST_WORD_SECONDS:
            if said.failures:
                self._alarmed[said.dependency] = now
                self._forget()
            if self.judge is not None:
                self.judge.hear(said)

    def _obey(self, verdict: FleetVerdict, until: float) -> None:
        if self.judge is not None:
            self.judge.take_over(verdict)
        word = FleetWord(phase=verdict.phase, share=verdict.share / 100, until=until)
        self._words[verdict.dependency] = word
        news, self._news = self._news, anyio.Event()
        news.set()
        self._forget()
        for _, throttle in self._throttles:
            if throttle.dependency.name == verdict.dependency:
                throttle.told(word)

    def _forget(self) -> None:
        now = anyio.current_time()
        self._words = {name: word for name, word in self._words.items() if word.until > now}
        self._alarmed = {name: at for name, at in self._alarmed.items() if now - at < ECHO_SECONDS}

    # --- the voice -------------------------------------------------------------------------------------------

    async def speak(self, publisher: Publisher) -> None:
        """Once a second say what there is to say, until cancelled; what cannot be sent is not said again."""
        while True:
            messages = [report_message(report) for report in self._reports()]
            messages += self._verdicts()
            for error in await publisher.publish(messages) if messages else ():
                if error is not None:
                    log.info("what is known of a dependency could not be published on %s: %s", BREAKERS, error)
            await anyio.sleep(SPEAK_SECONDS)

    def _verdicts(self) -> list[Message]:
        return [] if self.judge is None else [verdict_message(one) for one in self.judge.verdicts(self._wall())]

    def _reports(self) -> Iterator[CallReport]:
        now = anyio.current_time()
        for service, throttle in self._throttles:
            calls, failures = throttle.counted()
            name = throttle.dependency.name
            is_alarmed = now - self._alarmed.get(name, -ECHO_SECONDS) < ECHO_SECONDS
            if calls and (failures or throttle.phase is not Phase.CLOSED or is_alarmed or self.word(name)):
                yield CallReport(
                    dependency=name,
                    service=service,
                    slot=self._slot,
                    calls=calls,
                    failures=failures,
                    at=self._wall(),
                )
