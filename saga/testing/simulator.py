"""Let everything go wrong, schedule after schedule, and find out whether the sagas hold."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import SystemRandom

from saga._core.events import Refusal
from saga._core.words import Ending
from saga.testing.examples import example_of
from saga.testing.faults import Fault, in_words
from saga.testing.fleet import Fleet, Group, fleet_of
from saga.testing.scenario import Scenario, played
from saga.testing.schedule import Extent, schedule, shrink
from saga.testing.settling import problems, settle
from saga.testing.virtual import run

Play = Callable[[Scenario], Awaitable[None]]
"""A function of the user's, given the running scenario."""

ENDINGS = (Ending.COMPLETED, Ending.COMPENSATED)
LOGGERS = ("saga", "transports.memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """Say what a simulation has gone through; `struck` counts the faults that came to strike, by their class."""

    seed: str
    schedules: int
    seconds: float
    struck: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    error: Exception | None
    told: str = ""
    struck: tuple[Fault, ...] = ()
    extent: Extent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Simulation:
    fleet: Fleet
    start: Play
    invariant: Play | None
    endings: Sequence[Ending]
    refusals: Sequence[Refusal] = field(default=())

    def play(self, faults: Sequence[Fault], seed: str) -> _Played:
        """Play one schedule in an event loop of its own and return what came of it; raises nothing of the user's."""
        return run(self._play, faults, seed)

    async def _play(self, faults: Sequence[Fault], seed: str) -> _Played:
        told = ""
        struck: tuple[Fault, ...] = ()
        extent: Extent | None = None
        try:
            async with played(self.fleet, seed=seed) as s:
                try:
                    for fault in faults:
                        s.arm(fault)
                    await self.start(s)
                    await settle(s)
                    for problem in await problems(s, self.endings):
                        raise AssertionError(problem)
                    if self.invariant is not None:
                        await self.invariant(s)
                finally:
                    told, struck = s.tell(), tuple(s.stage.struck)
                    extent = self._extent(s)
        except Exception as error:  # noqa: BLE001 - the user's code, and what it has brought about
            return _Played(error=error, told=told, struck=struck)
        return _Played(error=None, told=told, struck=struck, extent=extent)

    def _extent(self, s: Scenario) -> Extent:
        steps = [step for definition in self.fleet.definitions for step in definition.steps]
        given = {type(refusal): refusal for refusal in self.refusals}
        refusals = [(step.name, given.get(cls) or example_of(cls)) for step in steps for cls in step.refuses]
        names = {step.name for step in steps}
        return Extent(
            commits=tuple(sorted(s.stage.commits.items())),
            messages=tuple(sorted(s.stage.messages.items())),
            steps=tuple(sorted(names)),
            others=tuple(sorted(s.calls.names.keys() - names)),
            refusals=tuple((name, refusal) for name, refusal in refusals if refusal is not None),
            late_seconds=s.longest.total_seconds() + 5.0,
        )


def simulate(
    services: Sequence[Group],
    start: Play,
    *,
    invariant: Play | None = None,
    schedules: int = 200,
    seed: str | None = None,
    endings: Sequence[Ending] = ENDINGS,
    refusals: Sequence[Refusal] = (),
) -> Simulated:
    """Play a saga through under many schedules of faults, and raise AssertionError for the first that breaks it.

    `start(s)` prepares rows and starts sagas; called once for each schedule, on empty databases. Then
    processes die, messages come twice, late or in another order, steps refuse, raise and hang, as the
    `seed` says. Once every saga has ended, one of `endings` each, nothing may be left over, every
    compensated saga must be undone, and `invariant(s)` must not raise. The error prints a seed that
    plays this one schedule again, and the fewest faults that break it. A step is made to refuse with the
    given `refusals`, else with made-up values. Blocks until done; call it outside of any event loop.
    """
    began = time.perf_counter()
    simulation = _Simulation(
        fleet=fleet_of(services), start=start, invariant=invariant, endings=endings, refusals=refusals
    )
    base, _, only = (seed or f"{SystemRandom().getrandbits(16):04x}").partition("-")
    struck: Counter[str] = Counter()
    with _muted():
        plain = simulation.play((), base)
        if plain.error is not None or plain.extent is None:
            msg = f"it fails without any fault:\n{_indented(plain.error)}\n{plain.told}"
            raise AssertionError(msg) from plain.error
        indices = [int(only)] if only else range(schedules)
        for index in indices:
            faults = schedule(base, index, plain.extent)
            played = simulation.play(faults, f"{base}-{index}")
            struck.update(type(fault).__name__ for fault in played.struck)
            if played.error is not None:
                _raise(simulation, f"{base}-{index}", faults, played)
    return Simulated(seed=base, schedules=len(indices), seconds=time.perf_counter() - began, struck=dict(struck))


def _raise(simulation: _Simulation, seed: str, faults: Sequence[Fault], played: _Played) -> None:
    """Raise what a failed schedule has shown, with the fewest faults that still show it."""
    fewest = shrink(faults, lambda fewer: bool(fewer) and simulation.play(fewer, seed).error is not None)
    again = simulation.play(fewest, seed)
    if again.error is None:  # another time it may go well, if the user's code decides by chance
        fewest, again = tuple(faults), played
    story = "\n".join(f"  {number}. {in_words(fault)}" for number, fault in enumerate(fewest, 1))
    msg = (
        f'simulate(..., seed="{seed}") fails:\n{_indented(again.error)}\n'
        f"It does so with these faults, and not with fewer:\n{story}\n{again.told}"
    )
    raise AssertionError(msg) from again.error


def _indented(error: Exception | None) -> str:
    text = f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else str(error) or repr(error)
    return "\n".join(f"  {line}" for line in text.splitlines())


@contextmanager
def _muted() -> Generator[None]:
    """Keep the log silent: what goes wrong here goes wrong on purpose."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
