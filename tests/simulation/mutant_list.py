"""List the guards that are taken out: those of the exhaustive exploration, and more."""

from __future__ import annotations

from saga._core import learning, participant
from tests.exhaustive.mutants import MUTANTS as EXPLORED
from tests.simulation.guards_inside import INSIDE
from tests.simulation.guards_of_desk import OF_DESK
from tests.simulation.mutant import Mutant, mutant

LEFT = frozenset(
    {
        # A pivot that is given up is in doubt all the same: the close that is sent again has it asked again.
        "a pivot in doubt is asked until it answers",
    }
)
"""Guards that the exploration needs and the simulation does not; each for the reason beside it."""


MUTANTS: tuple[Mutant, ...] = (
    *(mutant(each.guard, each.module, each.old, each.new) for each in EXPLORED if each.guard not in LEFT),
    *INSIDE,
    *OF_DESK,
)
"""Guards without which the simulation finds a broken promise."""

EQUIVALENT: tuple[Mutant, ...] = (
    # A repeated answer to a close is the same answer: keeping the first saves work.
    mutant(
        "the first answer to a close stays",
        learning,
        "if instance.answers.get(service) in (Answer.CLOSED, Answer.COMMITTED):\n        return instance\n    return",
        "return",
    ),
    # An undo is only sent once its service has closed; the second lock is for a database put back to a backup.
    mutant(
        "an undo closes the gate itself",
        participant,
        "shut = _gate(topology, service, saga_id, gate, GateState.CLOSED, expires_at)",
        "shut = None",
    ),
)
"""Guards that the protocol keeps its promises without; each is there for the reason beside it."""
