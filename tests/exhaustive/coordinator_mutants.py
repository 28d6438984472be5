"""List the guards of the coordinator."""

from __future__ import annotations

from saga._core import closure, coordinator, learning
from tests.exhaustive import scenarios as s
from tests.exhaustive.mutant import mutant

COORDINATOR_MUTANTS = (
    mutant(
        "the pivot's service is asked first, alone",
        coordinator,
        "phase=Phase.ASKING if topology.pivot else Phase.CLOSING",
        "phase=Phase.CLOSING",
        s.PIVOT_IN_THE_MIDDLE,
    ),
    mutant(
        "committed means only forward",
        coordinator,
        "        case Answer.COMMITTED:\n            return _commit(instance)",
        "        case Answer.COMMITTED:\n            return replace(instance, phase=Phase.CLOSING)",
        s.PIVOT_IN_THE_MIDDLE,
    ),
    mutant(
        "every service is asked, seen or not",
        coordinator,
        "[service for service in topology.services if service not in instance.answers]",
        "[service for service in topology.services if service not in instance.answers and "
        "any((key.service == service for key in instance.runs))]",
        s.SEQUENCE,
    ),
    mutant(
        "an undo waits for what the run has caused",
        closure,
        "return fact.key not in needed",
        "return True",
        s.SEQUENCE,
    ),
    mutant(
        "an undo waits until what it caused is known to be undone",
        closure,
        "instance.undos.get(other.key) is not UndoStep.DONE for cause",
        "other.key not in instance.undos for cause",
        s.SEQUENCE,
    ),
    mutant(
        "an undo waits for the answers of the services after it",
        closure,
        "hosts = topology.hosts_after[fact.step]",
        "hosts = frozenset({fact.key.service})",
        s.SEQUENCE,
    ),
    mutant(
        "an undo waits for its own service's answer",
        closure,
        "hosts = topology.hosts_after[fact.step]",
        "hosts = topology.hosts_after[fact.step] - {fact.key.service}",
        s.TWO_SERVICES,
    ),
    mutant(
        "compensated means that all services have answered",
        closure,
        "    if any((instance.answers.get(service) is not Answer.CLOSED for service in topology.services)):\n"
        "        return False\n    if not cannot_complete",
        "    if not cannot_complete",
        s.SEQUENCE,
    ),
    mutant(
        "compensated means that every run is undone",
        closure,
        "return all((instance.undos.get(fact.key) is UndoStep.DONE",
        "return all((fact.key in instance.undos",
        s.SEQUENCE,
    ),
    mutant(
        "outside calls without an answer are undone",
        closure,
        "return step.effects is not Effects.LOCAL and fact.status in (RunStatus.INTENT, RunStatus.FAILED)",
        "return False",
        s.EXTERNAL_STEP,
    ),
    mutant(
        "failed outside calls are undone",
        closure,
        "return step.effects is not Effects.LOCAL and fact.status in (RunStatus.INTENT, RunStatus.FAILED)",
        "return step.effects is not Effects.LOCAL and fact.status is RunStatus.INTENT",
        s.EXTERNAL_STEP,
    ),
    mutant(
        "the list of a closed service is believed",
        learning,
        "return _with_facts(topology, _with_answer(instance, service, Answer.CLOSED), runs)",
        "return _with_answer(instance, service, Answer.CLOSED)",
        s.SEQUENCE,
    ),
    mutant(
        "knowledge of a run only rises",
        learning,
        "(known is None or RANK[fact.status] > RANK[known.status])",
        "True",
        s.PIVOT_IN_DOUBT,
    ),
    mutant(
        "nothing completes once an undo has begun",
        coordinator,
        "if not instance.undos and (not _is_called_back(topology, instance)) and is_complete(topology, instance):",
        "if is_complete(topology, instance):",
        s.PARALLEL,
    ),
    mutant(
        "complete means that every step that is owed has run",
        closure,
        "            if follower is None:\n                return False\n",
        "            if follower is None:\n                continue\n",
        s.SEQUENCE,
    ),
    mutant(
        "complete means that every run has succeeded",
        closure,
        "        if fact.status is not RunStatus.DONE:\n            return False\n        for key",
        "        for key",
        s.SEQUENCE,
    ),
    mutant(
        "what has ended stays as it is",
        coordinator,
        "    elif instance.phase in ENDED:\n        return Decision(instance=instance, effects=())\n",
        "",
        s.SEQUENCE,
    ),
    mutant(
        "a late completion is seen while closing",
        coordinator,
        "if not instance.undos and (not _is_called_back(topology, instance)) and is_complete(topology, instance):",
        "if instance.phase is Phase.RUNNING and is_complete(topology, instance):",
        s.PIVOT_IN_THE_MIDDLE,
    ),
    mutant(
        "a refusal closes the saga",
        coordinator,
        "        if fact.status is RunStatus.REFUSED:\n            return replace(",
        "        if False:\n            return replace(",
        s.SEQUENCE,
    ),
)
