"""List the guards of a participant."""

from __future__ import annotations

from saga._core import answers, doubt, participant
from tests.exhaustive import scenarios as s
from tests.exhaustive.mutant import mutant

PARTICIPANT_MUTANTS = (
    mutant(
        "a closed gate turns deliveries away",
        participant,
        "    if gate is not None and gate.state is GateState.CLOSED:\n        return Meeting.TURNED_AWAY\n",
        "",
        s.SEQUENCE,
    ),
    mutant(
        "a run that exists is not run again",
        participant,
        "    if run is not None and run.status is not RunStatus.WAITING:\n        return Meeting.DUPLICATE\n",
        "",
        s.SEQUENCE,
    ),
    mutant(
        "deliveries are kept while the gate is closing",
        participant,
        "return Meeting.HELD",
        "return Meeting.TURNED_AWAY",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "held deliveries go on when the gate opens again",
        answers,
        "gate=replace(gate, state=GateState.OPEN), reports=(report,), release=True)",
        "gate=replace(gate, state=GateState.OPEN), reports=(report,))",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "the gate opens again when the pivot has run",
        answers,
        "gate=replace(gate, state=GateState.OPEN)",
        "gate=replace(gate, state=GateState.CLOSED)",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "a service whose pivot has run does not close",
        participant,
        "if pivot is not None and pivot.status is RunStatus.DONE:",
        "if False:",
        s.PIVOT_IN_THE_MIDDLE,
    ),
    mutant(
        "a service whose pivot is in doubt does not close yet",
        participant,
        "if pivot is not None and in_doubt(topology.steps[pivot.step], pivot):",
        "if False:",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "a pivot that has failed is asked again",
        participant,
        "run=replace(pivot, pending_at=now, owner=''), kick=True)",
        "kick=True)",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "a pivot in doubt is asked until it answers",
        answers,
        "endless = closing or step.kind is StepKind.RETRIABLE",
        "endless = step.kind is StepKind.RETRIABLE",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "what is certain to succeed is called until it does",
        answers,
        "endless = closing or step.kind is StepKind.RETRIABLE",
        "endless = closing",
        s.CERTAIN,
    ),
    mutant(
        "the answer that ends the pivot's doubt is reported",
        answers,
        "if gate is None or not closing or (not _is_pivot(topology, ended)):",
        "if True:",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "what is in doubt is resolved before it is undone",
        participant,
        "if in_doubt(step, run) and step.undoing is not Undoing.NOTHING:",
        "if False:",
        s.EXTERNAL_STEP,
    ),
    mutant(
        "a failed outside call is in doubt too",
        participant,
        "step.effects is Effects.EXTERNAL and run.status in (RunStatus.INTENT, RunStatus.FAILED)",
        "step.effects is Effects.EXTERNAL and run.status is RunStatus.INTENT",
        s.EXTERNAL_STEP,
    ),
    mutant(
        "nothing found proves nothing while a call may be under way",
        doubt,
        "if run.called_at >= settled_at:",
        "if True:",
        s.PROBED_STEP,
    ),
    mutant(
        "an undo waits for the proof",
        answers,
        "return _unproven(run, answer, now, stopping=stopping)",
        "return compensated(run, now)",
        s.PROBED_STEP,
    ),
    mutant(
        "an intent nobody has called is not in doubt, and is not called after the pivot's service has closed",
        participant,
        "never = _never_called(topology, pivot)",
        "never = None",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "what turns out to have happened is compensated",
        answers,
        "return Turn(run=compensating(done(run, answer, now), now), kick=True)",
        "return compensated(done(run, answer, now), now)",
        s.EXTERNAL_STEP,
    ),
    mutant(
        "an undo waits for an answer, however often the call fails",
        answers,
        "        case Raised():\n            again = replace(run, attempt=run.attempt + 1",
        "        case Raised():\n            return compensated(run, now)\n"
        "            again = replace(run, attempt=run.attempt + 1",
        s.EXTERNAL_STEP,
    ),
    mutant(
        "the answer to a call whose run has moved on is dropped",
        answers,
        "return current is None or current.revision != taken.revision",
        "return current is None",
        s.EXTERNAL_STEP,
    ),
    mutant(
        "an undo that is repeated only answers again",
        participant,
        "case UndoStatus.DONE:\n            return Turn(gate=shut, reports=(undone,))",
        "case UndoStatus.DONE:\n            return _first_undo(topology.steps[run.step], run, shut, now)",
        s.SEQUENCE,
    ),
    mutant(
        "an outside compensation is repeated until it succeeds",
        participant,
        "again = replace(run, undo=UndoStatus.INTENT, attempt=tried, pending_at=retry_at, ",
        "again = replace(run, undo=UndoStatus.INTENT, attempt=tried, pending_at=None, ",
        s.EXTERNAL_STEP,
    ),
)
