"""Keep the seeds that have found something, each with what it was; they run again in every build."""

from __future__ import annotations

REGRESSIONS: dict[int, str] = {
    1795276147011790: "a replica that did not know the plan made the coordinator forget that an undo had failed",
}
