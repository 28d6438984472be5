"""List the guards of the participants, beyond those of the exhaustive exploration."""

from __future__ import annotations

from saga._core import answers, doubt, gathering, intake, interventions, participant
from tests.simulation.mutant import mutant

INSIDE = (
    mutant(
        "an expired saga starts no run",
        participant,
        "    if now >= max(until, expires_at):\n        return Meeting.EXPIRED\n",
        "",
    ),
    mutant(
        "a saga that is kept runs on after its expiry",
        participant,
        "if now >= max(until, expires_at):",
        "if now >= expires_at:",
    ),
    mutant(
        "nothing new runs while the gate is closing or held",
        participant,
        "gate.state is GateState.CLOSING or gate.mark is Mark.HELD",
        "gate.state is GateState.CLOSING",
    ),
    mutant(
        "a delayed step waits",
        participant,
        "return Meeting.DELAYED if not_before is not None and now < not_before else Meeting.RUN",
        "return Meeting.RUN",
    ),
    mutant(
        "a waiting join is not in the list",
        participant,
        "started = (run for run in runs if run.status is not RunStatus.WAITING)",
        "started = (run for run in runs if True)",
    ),
    mutant(
        "a closed gate answers a repeated close",
        participant,
        "return Turn(reports=(Closed(service=service, runs=facts_of(rows)),))",
        "return Turn()",
    ),
    mutant(
        "the list of a service that closes is in its answer",
        participant,
        "report = Closed(service=service, runs=facts_of(rows))",
        "report = Closed(service=service, runs=())",
    ),
    mutant(
        "a closed service stays closed",
        participant,
        "closed = _gate(topology, service, saga_id, gate, GateState.CLOSED, expires_at)",
        "closed = _gate(topology, service, saga_id, gate, GateState.OPEN, expires_at)",
    ),
    mutant(
        "an undo that fails for good is answered again",
        participant,
        "            return Turn(gate=shut, reports=(failed,))",
        "            return Turn(gate=shut)",
    ),
    mutant(
        "a run in doubt is asked about before it is undone",
        participant,
        "return outside and run.called_at is not None",
        "return False",
    ),
    mutant(
        "an outside compensation is called",
        participant,
        "return Turn(run=compensating(run, now), gate=shut, kick=True)\n    return Compensate",
        "return compensated(run, now)\n    return Compensate",
    ),
    mutant(
        "a compensation is repeated",
        participant,
        "    if tried < attempts:\n",
        "    if False:\n",
    ),
    mutant(
        "what was done is reported as done",
        participant,
        "emits = (run.result_type,) if run.status is RunStatus.DONE and run.result_type else ()",
        "emits = ()",
    ),
    mutant(
        "a record tells how many branches there are",
        participant,
        "fan_out=run.fan_out",
        "fan_out=None",
    ),
    mutant(
        "what has its undo wanted is resolved, not called again",
        answers,
        "    if run.undo is UndoStatus.INTENT:\n        return Work.COMPENSATE\n",
        "",
    ),
    mutant(
        "what is certain is called again after proof that it has not happened",
        answers,
        "left = step.kind is StepKind.RETRIABLE or run.attempt + 1 < answer.attempts",
        "left = run.attempt + 1 < answer.attempts",
    ),
    mutant(
        "without proof an undo waits",
        answers,
        "if not stopping and run.status is RunStatus.INTENT and (now <= answer.call_until):",
        "if run.status is RunStatus.INTENT and (now <= answer.call_until):",
    ),
    mutant(
        "a call whose key may be forgotten is reported",
        answers,
        "return Turn(run=doubted, reports=(InDoubt(step=run.step, branch=run.branch, reason=doubted.error),))",
        "return Turn(run=doubted)",
    ),
    mutant(
        "a pivot that turns out not to have run closes the gate",
        answers,
        "gate=replace(gate, state=GateState.CLOSED), reports=(report,), release=True)",
        "gate=replace(gate, state=GateState.OPEN), reports=(report,), release=True)",
    ),
    mutant(
        "a forgotten key is not used again",
        doubt,
        "return run.called_at + memory.max_in_flight <= run.first_called_at + memory.key_ttl",
        "return True",
    ),
    mutant(
        "a key that is known is used again",
        doubt,
        "return run.called_at + memory.max_in_flight <= run.first_called_at + memory.key_ttl",
        "return False",
    ),
    mutant(
        "finding nothing proves nothing once the key may be forgotten",
        doubt,
        "    if is_forgotten(taken, memory, now):\n        return forgotten(memory)\n",
        "",
    ),
    mutant(
        "a join remembers all of its causes",
        gathering,
        "causes = run.causes if received.cause in run.causes else (*run.causes, received.cause)",
        "causes = (received.cause,)",
    ),
    mutant(
        "a gather keeps what has come before",
        gathering,
        "found.setdefault(event, {})[received.branch] = [received.type, received.payload.decode()]",
        "found[event] = {received.branch: [received.type, received.payload.decode()]}",
    ),
    mutant(
        "a gather runs outside of the branches",
        gathering,
        "return '' if any((taken.takes is Takes.EVERY for taken in step.inputs)) else branch",
        "return branch",
    ),
    mutant(
        "the cause of an element is the run that made the list",
        gathering,
        "branch='' if topology.scopes.get(event) == event else branch",
        "branch=branch",
    ),
    mutant(
        "a step of other code is kept for another replica",
        intake,
        "return React(steps=here, parked=parked)",
        "return React(steps=here)",
    ),
    mutant(
        "an event is parked while its plan is not known",
        intake,
        "return Park(reason=f\"plan {envelope.plan[:12] or '(none)'} is not known here\")",
        "return Skip()",
    ),
    mutant(
        "an older hold or release is ignored",
        interventions,
        "    if command.number < gate.mark_number:\n        return Turn(reports=(obeyed,))\n",
        "",
    ),
    mutant(
        "a release lets go of what is held",
        interventions,
        "return Turn(gate=marked, reports=(obeyed,), release=mark is Mark.FREE)",
        "return Turn(gate=marked, reports=(obeyed,))",
    ),
    mutant(
        "a release is obeyed",
        interventions,
        "mark = Mark.HELD if isinstance(command, Hold) else Mark.FREE",
        "mark = Mark.HELD",
    ),
    mutant(
        "keeping is answered",
        interventions,
        "return Turn(gate=kept, reports=(obeyed,))",
        "return Turn(gate=kept)",
    ),
    mutant(
        "a person has a failed undo tried again",
        interventions,
        "    if run.undo is UndoStatus.FAILED:\n        return Turn(run=compensating(run, now), kick=True)\n",
        "",
    ),
    mutant(
        "what has run is not skipped",
        interventions,
        "    if run is not None and run.status in (RunStatus.DONE, RunStatus.REFUSED):\n        return Turn()\n    if",
        "    if",
    ),
    mutant(
        "nothing is skipped forward behind a closed gate",
        interventions,
        "    if gate.state is not GateState.OPEN:\n        return Turn()\n",
        "",
    ),
    mutant(
        "nothing is skipped after the expiry",
        interventions,
        "if run is None and now >= max(gate.expires_at, gate.keep_until or gate.expires_at):",
        "if False:",
    ),
)
