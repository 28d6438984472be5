"""Hold the luck of one schedule: every choice comes from its seed, and every fault can be taken back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum, auto
from random import Random
from typing import TypeVar

Thing = TypeVar("Thing")

NEVER = 1 << 60


class Fault(IntEnum):
    """Name what can go wrong; each has a countdown of its own."""

    CRASH_BEFORE_COMMIT = 0
    CRASH_AFTER_COMMIT = auto()
    CRASH_AFTER_PUBLISH = auto()
    UNKNOWN_COMMIT = auto()
    DUPLICATE = auto()
    DELAY = auto()
    COMMAND_LOST = auto()
    REPLY_LOST = auto()
    CRASH_BEFORE_CALL = auto()
    CRASH_AFTER_CALL = auto()
    CALL_LOST = auto()
    ANSWER_LOST = auto()
    ZOMBIE_CALL = auto()
    ZOMBIE_ANSWER = auto()
    TAKEN_MEANWHILE = auto()
    HANDLER_RAISES = auto()
    COMPENSATION_RAISES = auto()
    CLOCK_STEP = auto()
    TIME_PASSES = auto()
    SERVICE_DOWN = auto()
    PLAN_UNKNOWN = auto()
    COORDINATOR_CRASH = auto()
    COORDINATOR_UNKNOWN_COMMIT = auto()
    COORDINATOR_ZOMBIE = auto()
    COORDINATOR_DOWN = auto()
    COORDINATOR_UNPLANNED = auto()
    CANCEL = auto()
    HOLD = auto()
    CANCEL_VERB = auto()
    RETRY = auto()
    SKIP = auto()


MEAN: dict[Fault, int] = dict.fromkeys(Fault, 8) | {
    Fault.DELAY: 5,
    Fault.SERVICE_DOWN: 40,
    Fault.COORDINATOR_DOWN: 30,
    Fault.COMMAND_LOST: 8,
    Fault.REPLY_LOST: 8,
    Fault.COORDINATOR_UNPLANNED: 25,
    Fault.CALL_LOST: 3,
    Fault.ANSWER_LOST: 3,
    Fault.ZOMBIE_CALL: 3,
    Fault.ZOMBIE_ANSWER: 3,
    Fault.CRASH_BEFORE_CALL: 3,
    Fault.CRASH_AFTER_CALL: 3,
    Fault.TAKEN_MEANWHILE: 2,
    Fault.COMPENSATION_RAISES: 3,
    Fault.COORDINATOR_ZOMBIE: 6,
}
"""How many chances a fault lets pass on average before it strikes."""

FAULTS = tuple(Fault)
WHIMS = (
    Fault.TIME_PASSES,
    Fault.CLOCK_STEP,
    Fault.CANCEL,
    Fault.HOLD,
    Fault.CANCEL_VERB,
    Fault.RETRY,
    Fault.SKIP,
)
"""What may happen at any moment; these share one countdown, since every task would count down each of them."""
WHIM_MEAN = 18


class Chance:
    """Draw everything from one seed.

    A schedule has some kinds of faults, not all: what two kinds do to each other shows best without the rest.
    `struck` lists the faults in the order in which they came up; those whose place is in `hidden` do not happen.
    """

    __slots__ = ("_fuses", "_hidden", "_whim_in", "_whims", "random", "struck")

    def __init__(self, seed: int, hidden: Collection[int] = ()) -> None:
        """Draw from `seed`."""
        self.random = Random(seed).random
        self.struck: list[Fault] = []
        self._hidden = hidden
        self._fuses = [NEVER] * len(FAULTS)
        self._whims: list[Fault] = []
        self._whim_in = NEVER

    def arm(self) -> None:
        """Choose the kinds of faults of this schedule."""
        random = self.random
        share = random() * 0.6
        for fault in FAULTS:
            if random() >= share:
                continue
            if fault in WHIMS:
                self._whims.append(fault)
            else:
                self._light(fault)
        self._wait_for_whim()

    def disarm(self) -> None:
        """Let nothing go wrong any more."""
        self._fuses = [NEVER] * len(FAULTS)
        self._whim_in = NEVER

    def _wait_for_whim(self) -> None:
        if self._whims:
            self._whim_in = 1 + int(self.random() * 2 * WHIM_MEAN / len(self._whims) ** 0.5)

    def _light(self, fault: Fault) -> None:
        self._fuses[fault] = 1 + int(self.random() * 2 * MEAN[fault])

    def whim(self) -> Fault | None:
        """Return what happens at this moment for no reason, mostly nothing."""
        self._whim_in -= 1
        if self._whim_in:
            return None
        self._wait_for_whim()
        whim = self._whims[int(self.random() * len(self._whims))]
        self.struck.append(whim)
        return whim if len(self.struck) - 1 not in self._hidden else None

    def strikes(self, fault: Fault) -> bool:
        """Return whether a fault happens at this chance for it."""
        self._fuses[fault] -= 1
        if self._fuses[fault]:
            return False
        self._light(fault)
        self.struck.append(fault)
        return len(self.struck) - 1 not in self._hidden

    def below(self, bound: int) -> int:
        """Return a number from 0 up to `bound`, left out."""
        return int(self.random() * bound)

    def pick(self, things: Sequence[Thing]) -> Thing:
        """Return one of the things."""
        return things[int(self.random() * len(things))]
