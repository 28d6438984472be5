"""Decide how many deliveries go into one transaction: additive increase, multiplicative decrease."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from saga._core.frozen import replace

PAUSE_CAP_SECONDS = 0.01
WORTH_A_TRANSACTION = 32
LEAST_A_TRANSACTION = 4
SHORT_SECONDS = 0.01
BUSY_SHARE = 0.6
AT_ONCE_WHEN_BUSY = 2
NEVER = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """Be the current batch size: 1 at first, doubled by each clean full batch until rows have been contended for.

    From then on it is one more after a clean full batch and half on contention (TCP's slow start, RFC 5681): fixed
    batches on hot rows end in deadlock storms; this rule finds the size the rows can bear. `threshold` is where
    doubling ends.
    """

    size: int = 1
    cap: int = 128
    threshold: int = 128

    def after_clean(self, handled: int) -> BatchSize:
        """Return the size after a clean commit of `handled` deliveries; grows only if the batch was full."""
        if handled < self.size:
            return self
        grown = min(self.size * 2, self.threshold) if self.size < self.threshold else self.size + 1
        return replace(self, size=min(grown, self.cap))

    def after_cut(self, handled: int) -> BatchSize:
        """Return the size after a commit that has used up its time with `handled` deliveries; halved if it was far off.

        What is fetched has to be finished before anything urgent is: so no more is fetched than fits.
        """
        return replace(self, size=max(1, self.size // 2)) if handled * 2 <= self.size else self

    def after_contention(self) -> BatchSize:
        """Return the size after a deadlock, a lock timeout or a rollback."""
        half = max(1, self.size // 2)
        return replace(self, size=half, threshold=half)


def pause_after(batch_seconds: float) -> float:
    """Return for how long to let deliveries gather after a batch that was not full: as long as the batch has taken.

    A batch of two costs nearly as much as one of twenty. So a busy service works at most half of the time, in batches
    that grow with the load; an idle one has paused long before the next delivery comes. At most ten milliseconds.
    """
    return min(batch_seconds, PAUSE_CAP_SECONDS)


def worth_a_transaction(item_seconds: float, busy_share: float) -> int:
    """Return how many deliveries, each of which takes so long, are enough for a transaction beside another one.

    A process that works most of the time (`busy_share` of it) only loses by more transactions. Where it mostly waits
    for the database's answers, so many as take ten milliseconds are enough, but no fewer than four.
    """
    if busy_share > BUSY_SHARE:
        return NEVER
    return max(LEAST_A_TRANSACTION, min(WORTH_A_TRANSACTION, round(SHORT_SECONDS / max(item_seconds, 1e-6))))


def side_by_side(busy_share: float) -> int:
    """Return how many batches a process that computes this share of the time runs at once."""
    return AT_ONCE_WHEN_BUSY if busy_share > BUSY_SHARE else NEVER


def split(keys: Sequence[Hashable], size: int, at_once: int, worth: int = WORTH_A_TRANSACTION) -> list[list[int]]:
    """Return the places of deliveries, by their keys, in groups for transactions side by side.

    What has the same key stays together and in order. No group has more than `size`, unless one key has; there are no
    more than needed for that until each has what is `worth` a transaction, and from there up to `at_once`.
    """
    wanted = max(-(-len(keys) // size), min(at_once, len(keys) // worth), 1)
    if wanted == 1:
        return [list(range(len(keys)))]
    groups: list[list[int]] = [[] for _ in range(wanted)]
    at: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        if key not in at:
            at[key] = min(groups, key=len)
        at[key].append(place)
    return [group for group in groups if group]
