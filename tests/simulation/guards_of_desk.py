"""List the guards of the coordinator, beyond those of the exhaustive exploration."""

from __future__ import annotations

from saga._core import by_hand, children, closure, coordinator, deadlines, learning, plan
from tests.simulation.mutant import mutant

OF_DESK = (
    mutant(
        "a step asks for a run in each branch",
        closure,
        "branches = (fact.branch,) if fact.fan_out is None else branches_of(fact.fan_out)",
        "branches = (fact.branch,)",
    ),
    mutant(
        "a gather is one run",
        closure,
        "            if gathers(follower, event):\n                yield RunKey(step=follower.name)\n"
        "            else:\n",
        "            if True:\n",
    ),
    mutant(
        "an empty list asks for its gather",
        closure,
        "for gather in topology.gathers.get(event, ()):",
        "for gather in ():",
    ),
    mutant(
        "undo needs a proof",
        coordinator,
        "    if not cannot_complete(topology, instance):\n        return instance\n",
        "",
    ),
    mutant(
        "a timeout asks",
        coordinator,
        "    if timeout is not None and now >= timeout:\n",
        "    if False:\n",
    ),
    mutant(
        "a step's own time asks",
        coordinator,
        "if within is not None and key is not None and (now >= within):",
        "if False:",
    ),
    mutant(
        "unanswered closes are sent again",
        coordinator,
        "    found += [SendClose(service=name) for name, answer in instance.answers.items() "
        "if answer is Answer.ASKED]\n",
        "",
    ),
    mutant(
        "a held saga does nothing",
        coordinator,
        "settled = _tell_stuck(known, now, effects) if known.mark is Mark.HELD else "
        "_settle(topology, known, now, effects)",
        "settled = _settle(topology, known, now, effects)",
    ),
    mutant(
        "a held saga repeats only what marks it",
        coordinator,
        "if instance.mark is Mark.HELD or instance.phase is Phase.COMMITTED:",
        "if instance.phase is Phase.COMMITTED:",
    ),
    mutant(
        "a child that is stuck leaves its parent waiting",
        children,
        "if run is None or outcome.ending is Ending.STUCK:",
        "if run is None:",
    ),
    mutant(
        "a child is told that its parent has completed",
        coordinator,
        "if fact.step in topology.steps and topology.steps[fact.step].effects is Effects.CHILD",
        "if False",
    ),
    mutant(
        "a child waits for its parent",
        coordinator,
        "if is_child(topology, instance) and (not instance.settled):",
        "if False:",
    ),
    mutant(
        "a child that is called back waits for the undo of what has run",
        coordinator,
        "if instance.phase in (Phase.RUNNING, Phase.READY):\n        instance = _leave_running",
        "if instance.phase is Phase.RUNNING:\n        instance = _leave_running",
    ),
    mutant(
        "who is stuck is told",
        coordinator,
        "    effects.append(Tell(outcome=outcome))\n    return replace(instance, told=Ending.STUCK)",
        "    return replace(instance, told=Ending.STUCK)",
    ),
    mutant(
        "what ends a saga does not swallow its release",
        coordinator,
        "effects[:] = [*(effect for effect in effects if isinstance(effect, Send)), Tell(outcome=outcome)]",
        "effects[:] = [Tell(outcome=outcome)]",
    ),
    mutant(
        "an open saga is due at its timeout",
        deadlines,
        "times += [timeout_at(topology, instance), within_at(topology, instance)[0]]",
        "times += [within_at(topology, instance)[0]]",
    ),
    mutant(
        "a saga that has not started has no timeout",
        deadlines,
        "    if only_received(topology, instance):\n        return None\n",
        "",
    ),
    mutant(
        "rows are kept as long as the saga is open",
        deadlines,
        "return kept_until(instance) - topology.keep_margin",
        "return kept_until(instance) + timedelta(days=9999)",
    ),
    mutant(
        "a cancel closes only what is running",
        learning,
        "if instance.cause is not None or instance.phase not in (Phase.RUNNING, Phase.READY):\n"
        "            return instance\n",
        "",
    ),
    mutant(
        "a failed undo makes the saga stuck",
        learning,
        "return replace(_with_undo(instance, key, UndoStep.FAILED), stuck=Cause.UNDO_FAILED, stuck_detail=detail)",
        "return _with_undo(instance, key, UndoStep.FAILED)",
    ),
    mutant(
        "a call in doubt makes the saga stuck",
        learning,
        "return replace(instance, doubts=instance.doubts | {key}, stuck=Cause.IN_DOUBT, stuck_detail=detail)",
        "return instance",
    ),
    mutant(
        "a doubt that is over frees the saga",
        learning,
        "return freed(instance) if over else instance\n\ndef _is_answered",
        "return instance\n\ndef _is_answered",
    ),
    mutant(
        "a coordinator without the plan learns what it hears",
        learning,
        "instance = learn(None, instance, report)",
        "pass",
    ),
    mutant(
        "a step is not skipped before its causes",
        by_hand,
        "(missing := _missing(topology, instance, step, verb.key.branch))",
        "(missing := '')",
    ),
    mutant(
        "every service with something after a step is waited for",
        plan,
        "hosts_after={n: frozenset((steps[m].service for m in after[n] | {n})) for n in steps}",
        "hosts_after={n: frozenset((steps[n].service,)) for n in steps}",
    ),
    mutant(
        "all of a step's descendants count, near and far",
        plan,
        "                    found |= descend(child.name)\n",
        "                    descend(child.name)\n",
    ),
)
