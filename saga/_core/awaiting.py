"""Say what an open saga waits for, run by run and service by service, and which command helps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from saga._core.by_hand import blocking, results_of
from saga._core.closure import built_on, needs_undo
from saga._core.deadlines import resend_at, timeout_at
from saga._core.explanation import MOST_LINES, About, Case, Line, Mend, told_at
from saga._core.ids import child_id_of, idempotency_key, run_path
from saga._core.instance import Answer, Phase, UndoStep
from saga._core.rows import DeliveryRow, RunRow
from saga._core.topics import OUTCOMES
from saga._core.words import Cause, Effects, Mark, Reason, RunKey, RunStatus, UndoStatus

SIGNED = "--who NAME --why REASON"
Told = Line | Mend


def waits(case: Case) -> tuple[tuple[Line, ...], tuple[Mend, ...]]:
    """Return what the saga waits for, most telling first, and what helps; for a saga that has not ended."""
    instance = case.instance
    told = [*_held(case), *_stuck(case)]
    if instance.mark is not Mark.HELD and case.topology is not None:
        keys = blocking(case.topology, instance)
        forward = instance.phase in (Phase.RUNNING, Phase.COMMITTED)
        for key in keys[:MOST_LINES]:
            told += _run(case, key) if forward or key in instance.doubts else _undo(case, key)
        told += [] if forward else [*_unanswered(case), *_held_back(case)]
        told += _timeout(case)
    told += [*_owed(case), *_untold(case), *_letters(case)]
    return _sorted(told)


def still_to_tell(case: Case) -> tuple[tuple[Line, ...], tuple[Mend, ...]]:
    """Return what keeps the starter from knowing how the saga ended, or that it is stuck; empty once it knows."""
    return _sorted([*_untold(case), *_letters(case)])


def _sorted(told: Iterable[Told]) -> tuple[tuple[Line, ...], tuple[Mend, ...]]:
    lines = tuple(dict.fromkeys(each for each in told if isinstance(each, Line)))
    mends = tuple(dict.fromkeys(each for each in told if isinstance(each, Mend)))
    return lines, mends


def _line(text: str, run: RunKey | None = None) -> Line:
    return Line(about=About.WAITS, text=text, run=run)


def _mend(case: Case, verb: str, target: str, text: str, *options: str) -> Mend:
    words = ("saga", verb, case.instance.saga_id, target, *options, SIGNED)
    return Mend(command=" ".join(word for word in words if word), text=text)


# --- what a person has to see to -------------------------------------------------------------------------------


def _held(case: Case) -> Iterator[Told]:
    if case.instance.mark is Mark.HELD:
        yield _line("a person holds it: what arrives for it lies in rows until it is released")
        yield _mend(case, "release", "", "lets it go on, with the time it had left")


def _stuck(case: Case) -> Iterator[Told]:
    """Yield what a mark says that no run of the saga does."""
    instance = case.instance
    match instance.stuck:
        case Cause.PLAN_UNKNOWN:
            yield _line(f"the coordinator does not know its plan: {instance.stuck_detail}")
            yield Mend(
                text="put its plan file into the coordinator's plans folder and start it again: saga plan TARGET"
            )
        case Cause.TOO_LATE:
            yield _line(f"a command came too late, after the rows were gone: {instance.stuck_detail}")
            target = instance.stuck_detail.partition(":")[0]
            text = "counts it as closed or undone there, once a person has seen that nothing is left to undo"
            yield _mend(case, "skip", target, text)
        case Cause.OVERDUE:
            yield _line(f"its time is over: {instance.stuck_detail}")
            if instance.phase is Phase.RUNNING:
                yield _mend(case, "cancel", "", "has it undone")
        case Cause.UNDO_FAILED if case.topology is None:
            yield _line(f"an undo has failed for good: {instance.stuck_detail}")
            yield _mend(case, "retry", "", "has it tried again")
        case _:
            return


def _letters(case: Case) -> Iterator[Told]:
    """Yield dead letters of the saga: nothing brings them back but a person."""
    for row in _deliveries(case, Reason.DEAD):
        where = f"for {row.step}" if row.step else f"for {row.service}"
        yield _line(f"a message {where} is a dead letter (number {row.id}): {row.error}")
        command = f"saga dlq replay {row.id} {SIGNED}"
        text = f"lets {row.service} have it again, once what is wrong is mended"
        yield Mend(command=command, text=text, service=row.service)


def _untold(case: Case) -> Iterator[Told]:
    """Yield the starter's handler of the end that fails: the saga has ended, and its start does not know it."""
    for row in _deliveries(case):
        if not row.raw.topic.startswith(OUTCOMES) or row.reason is Reason.DEAD:
            continue
        if row.reason is not Reason.RETRY or not row.attempt:
            yield _line(f"{row.service} has not taken the saga's end yet: {_lying(row)}")
            continue
        times = f"{row.attempt} times" if row.attempt > 1 else "once"
        yield _line(
            f"on_end of {row.service}, which started it, has failed {times}: {row.error or 'it did not say why'}; "
            f"the next attempt is at {told_at(row.due_at)}, and outcome() waits for it"
        )
        yield Mend(text=f"mend on_end in {row.service} and start it again: it is called until it succeeds")


# --- going forward ---------------------------------------------------------------------------------------------


def _run(case: Case, key: RunKey) -> Iterator[Told]:
    path, row = run_path(*key), case.row_of(key)
    if key in case.instance.doubts:
        yield from _doubt(case, key, row)
        return
    lying = [d for d in _deliveries(case) if d.step == key.step and d.reason is not Reason.DEAD]
    if lying:
        yield _line(f"{path} waits: {_lying(lying[0])}", key)
        yield _mend(case, "retry", path, "has it tried at once")
    elif row is not None and row.status is RunStatus.INTENT:
        yield from _outside(case, key, row)
    elif row is not None and row.status is RunStatus.WAITING:
        yield _line(f"{path} waits for the rest of the events that it joins", key)
    elif row is not None:
        yield _line(f"{path} is {row.status.value} at {key.service}, and its record is on its way", key)
    elif case.rows is None:
        yield _line(f"{path} is to run at {key.service}, which has not said how it went", key)
    else:
        yield _line(f"{path} has not begun: {key.service} has not taken its event yet", key)
        yield Mend(command="saga doctor", text=f"says whether {key.service} runs and reads")
    if case.instance.stuck is Cause.OVERDUE and row is None:
        text = "goes on without it, with the result it would have had"
        for given in _given(case, key):
            yield _mend(case, "skip", path, text, given)


def _outside(case: Case, key: RunKey, row: RunRow) -> Iterator[Told]:
    step, path = case.step_of(key), run_path(*key)
    if step is not None and step.effects is Effects.CHILD:
        child = child_id_of(step.child, row.tenant, case.instance.saga_id, key)
        yield _line(f"{path} waits for its child saga {child} ({step.child})", key)
        yield Mend(command=f"saga explain {child}", text="says what the child saga waits for")
        return
    error = f"; the last error was {row.error}" if row.error else ""
    yield _line(f"{path} has an outside call open, attempt {row.attempt}, {_again(case, row)}{error}", key)
    yield _mend(case, "retry", path, "has it tried at once")


def _again(case: Case, row: RunRow) -> str:
    if row.pending_at is None:
        return "and nobody asks any more"
    return f"looked at again at {told_at(row.pending_at)}" if row.pending_at > case.now else "due now"


def _doubt(case: Case, key: RunKey, row: RunRow | None) -> Iterator[Told]:
    path = run_path(*key)
    called = f", last called at {told_at(row.called_at)}" if row is not None and row.called_at else ""
    step, ask = case.step_of(key), "a person has to ask there"
    if row is not None:
        # Not its compensation's: what is in doubt is whether there is anything to undo.
        ask += f" for the idempotency key {idempotency_key(case.instance.saga_id, *key, row.generation)}"
    yield _line(f"nobody knows what came of the outside call of {path}{_outwards(case, key, row)}{called}: {ask}", key)
    if row is not None and row.error and row.error not in case.instance.stuck_detail:
        yield _line(f"the last that is known of {path}: {row.error}", key)
    for given in _given(case, key):
        text = "says that it has happened, and what came of it"
        yield _mend(case, "resolve", path, text, "--verdict happened", given)
    for refusal in step.refuses if step is not None else ():
        options = ("--verdict happened", f"--result-type {refusal} --result JSON")
        yield _mend(case, "resolve", path, "says that it was refused, and how", *options)
    yield _mend(case, "resolve", path, "says that it has not happened and never will", "--verdict not_happened")


def _outwards(case: Case, key: RunKey, row: RunRow | None) -> str:
    """Tell whom a run calls, and about what."""
    step = case.step_of(key)
    calls = f" to {step.calls}" if step is not None and step.calls else ""
    takes = row.input_type if row is not None and row.input_type else step.reacts_to if step is not None else ""
    return calls + (f" about a {takes}" if takes else "")


def _given(case: Case, key: RunKey) -> tuple[str, ...]:
    """Return the options for each result that a person can give for a run."""
    step = case.step_of(key)
    if step is None:
        return ("--result-type TYPE --result JSON",)
    return tuple(f"--result-type {event} --result JSON" if event else "" for event in results_of(step))


def _lying(row: DeliveryRow) -> str:
    error = f": {row.error}" if row.error else ""
    match row.reason:
        case Reason.RETRY:
            return f"attempt {row.attempt} did not succeed, the next is due at {told_at(row.due_at)}{error}"
        case Reason.DELAYED:
            return f"its delay ends at {told_at(row.due_at)}"
        case Reason.LOCKED:
            return f"another saga holds an entity that it needs{error}"
        case Reason.PARKED:
            return f"the code of {row.service} that runs does not fit the plan (see saga check --live){error}"
        case Reason.HELD:
            return f"its event is held at {row.service}{error}"
        case Reason.DEAD:
            return f"its event is a dead letter{error}"


# --- going back ------------------------------------------------------------------------------------------------


def _undo(case: Case, key: RunKey) -> Iterator[Told]:
    path, row = run_path(*key), case.row_of(key)
    error = f": {row.error}" if row is not None and row.error else ""
    if case.instance.undos.get(key) is UndoStep.FAILED:
        known = error or f": {case.instance.stuck_detail}"
        times = f" after {row.attempt} attempts" if row is not None and row.attempt > 1 else ""
        yield _line(f"the undo of {path} has failed for good{times}{known}", key)
        yield _mend(case, "retry", path, "has its compensation tried again, once what is wrong is mended")
        yield _mend(case, "skip", path, "counts it as undone, once a person has undone it by hand")
        return
    if row is not None and row.undo in (UndoStatus.WANTED, UndoStatus.INTENT):
        yield _line(f"{path} is being undone, attempt {row.attempt}, {_again(case, row)}{error}", key)
        yield _mend(case, "retry", path, "has it tried at once")
        return
    yield _line(f"{key.service} has been asked to undo {path} and has not answered{_asked_again(case)}", key)
    yield Mend(command="saga doctor", text=f"says whether {key.service} runs and reads its commands")


def _unanswered(case: Case) -> Iterator[Told]:
    asked = [name for name, answer in case.instance.answers.items() if answer is Answer.ASKED]
    if case.instance.stuck is Cause.TOO_LATE:
        return
    for service in sorted(asked):
        why = " (its pivot decides: it goes forward, or is undone)" if case.instance.phase is Phase.ASKING else ""
        yield _line(f"{service} has been asked to close and has not answered{why}{_asked_again(case)}")
        yield Mend(command="saga doctor", text=f"says whether {service} runs and reads its commands")


def _asked_again(case: Case) -> str:
    again = resend_at(case.instance)
    return f"; asked again at {told_at(again)}" if again is not None else ""


def _held_back(case: Case) -> Iterator[Told]:
    """Yield the runs whose own undo waits for that of others."""
    instance, topology = case.instance, case.topology
    if topology is None or instance.phase is not Phase.CLOSING:
        return
    needed = built_on(topology, instance)
    for fact in list(instance.runs.values())[:MOST_LINES]:
        if fact.key in needed and fact.key not in instance.undos and needs_undo(topology, fact):
            after = [f.key for f in instance.runs.values() if fact.key in f.causes and needs_undo(topology, f)]
            yield _line(f"{run_path(*fact.key)} is undone after {_paths(after)}", fact.key)


def _paths(keys: Iterable[RunKey]) -> str:
    found = sorted(run_path(*key) for key in keys)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")  # noqa: PLR2004


# --- time and people -------------------------------------------------------------------------------------------


def _timeout(case: Case) -> Iterator[Told]:
    if case.topology is None or case.instance.phase is not Phase.RUNNING or case.instance.cause is not None:
        return
    at = timeout_at(case.topology, case.instance)
    if at is not None:
        yield _line(f"it is undone if it has not completed by {told_at(at)}")


def _owed(case: Case) -> Iterator[Told]:
    for (service, kind), _ in sorted(case.instance.owed.items()):
        yield _line(f"{service} has not confirmed {kind.value} yet{_asked_again(case)}")


def _deliveries(case: Case, reason: Reason | None = None) -> Iterator[DeliveryRow]:
    for row in case.rows.deliveries if case.rows is not None else ():
        if reason is None or row.reason is reason:
            yield row
