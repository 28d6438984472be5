"""Be the sagas under simulation."""

from __future__ import annotations

from datetime import datetime

from saga._core.plan import Topology
from tests.simulation.books import Books, Mark, Place


class SagaUnderTest:
    """Be one saga: its ID, when it expires, the books of what it has done, and the run that has started it.

    `topology` is what the rules under simulation make of its plan, `shape` what production makes of it.
    """

    __slots__ = ("books", "expires_at", "id", "marks_at_rest", "outcome", "parent", "shape", "topology")

    def __init__(
        self,
        saga_id: str,
        shape: Topology,
        topology: Topology,
        expires_at: datetime,
        parent: tuple[SagaUnderTest, Place] | None = None,
    ) -> None:
        """Begin."""
        self.id = saga_id
        self.shape = shape
        self.topology = topology
        self.parent = parent
        self.expires_at = expires_at
        self.books = Books(shape)
        self.outcome = ""
        self.marks_at_rest: dict[Place, Mark] = {}
