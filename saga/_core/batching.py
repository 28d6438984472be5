"""Decide how many deliveries go into one transaction: additive increase, multiplicative decrease."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """Be the current batch size: 1 at first, one more after each clean full batch, halved on contention.

    Fixed batches on hot rows end in deadlock storms; this rule finds the size the rows can bear.
    """

    size: int = 1
    cap: int = 128

    def after_clean(self, handled: int) -> BatchSize:
        """Return the size after a clean commit of `handled` deliveries; grows only if the batch was full."""
        return replace(self, size=min(self.size + 1, self.cap)) if handled >= self.size else self

    def after_cut(self, handled: int) -> BatchSize:
        """Return the size after a commit that has used up its time with `handled` deliveries; halved if it was far off.

        What is fetched has to be finished before anything urgent is: so no more is fetched than fits.
        """
        return self.after_contention() if handled * 2 <= self.size else self

    def after_contention(self) -> BatchSize:
        """Return the size after a deadlock, a lock timeout or a rollback."""
        return replace(self, size=max(1, self.size // 2))
