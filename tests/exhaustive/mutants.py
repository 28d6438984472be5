"""List the guards of the protocol: those that keep its promises, and those that are there for another reason."""

from __future__ import annotations

from saga._core import coordinator, participant
from tests.exhaustive import scenarios as s
from tests.exhaustive.coordinator_mutants import COORDINATOR_MUTANTS
from tests.exhaustive.mutant import mutant
from tests.exhaustive.participant_mutants import PARTICIPANT_MUTANTS
from tests.exhaustive.shape_mutants import SHAPE_MUTANTS

MUTANTS = (*PARTICIPANT_MUTANTS, *COORDINATOR_MUTANTS, *SHAPE_MUTANTS)
"""Guards without which the exploration finds a broken promise."""

EQUIVALENT = (
    # What runs while the gate is closing is in the list that follows: keeping it back only saves work.
    mutant(
        "nothing new runs while the gate is closing",
        participant,
        "if gate is not None and (gate.state is GateState.CLOSING or gate.mark is Mark.HELD):",
        "if gate is not None and gate.mark is Mark.HELD:",
        s.PIVOT_IN_DOUBT,
    ),
    # An undo is only sent once its service has closed; the second lock is for a database put back to a backup.
    mutant(
        "an undo closes the gate itself",
        participant,
        "shut = _gate(topology, service, saga_id, gate, GateState.CLOSED, expires_at)",
        "shut = None",
        s.SEQUENCE,
    ),
    # The pivot's service would answer `committed`; knowing it already saves the question.
    mutant(
        "a saga whose pivot is known to have run asks nobody",
        coordinator,
        "    if pivot_has_run(topology, instance):\n        return _commit(instance)\n    instance = _blame",
        "    instance = _blame",
        s.PIVOT_IN_THE_MIDDLE,
    ),
)
"""Guards that the protocol keeps its promises without; each is there for the reason beside it."""
