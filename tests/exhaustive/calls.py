"""Make the calls that leave a service: taken, made, stored; mirrors saga._runtime.calls and pending."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from saga._core.answers import AnswerFromOutside, Emitted, Raised, Refused, Work
from saga._core.doubt import Memory, Question
from saga._core.plan import Undoing
from saga._core.rows import RunRow, TakenRun
from tests.exhaustive.ledger import Mark, Standing
from tests.exhaustive.places import NOW, STORED, Move, OutsideCall, Place, Service, live, outcomes, sorted_calls

MOST_CALLS = 2
OK = Emitted(type="", payload=b"")
MEMORY = Memory(max_in_flight=timedelta(minutes=1), key_ttl=timedelta(hours=1))


class Caller:
    """Move the outside work of one service on."""

    def __init__(self, service: Service) -> None:
        """Work for `service`."""
        self._service = service
        self._rules = service.rules
        self._topology = service.topology
        self._raised = Raised(error="boom", attempts=service.scenario.call_attempts, retry_at=NOW)

    def go_on(self, place: Place) -> Iterator[Move]:
        """Yield every next transaction or call: rows taken, calls reaching the gateway, answers stored."""
        for row in place.runs:
            if row.pending_at is not None:
                yield from self._take(place, row)
        for call in place.calls:
            if call.answer is None:
                yield from self._reach(place, call)
            else:
                yield from self._store(place, call, call.answer)

    def _take(self, place: Place, row: RunRow) -> Iterator[Move]:
        mine = [call for call in place.calls if call.key == row.key]
        if len(mine) >= MOST_CALLS:
            return
        # Taking raises the revision: whoever held the row before is fenced off.
        mine_now = replace(row, owner="me", called_at=NOW, first_called_at=NOW)
        taken = place.stored(mine_now, self._service.scenario.call_attempts)
        work = self._rules.work_of(row)
        local = work is Work.COMPENSATE and self._topology.steps[row.step].undoing is Undoing.LOCAL
        probe = work is not Work.COMPENSATE and self._asks(row, mine_now)
        call = OutsideCall(row.key, work, fresh=True, answer=OK if local else None, probe=probe)
        taken = replace(taken, calls=sorted_calls({*taken.calls, call}))
        fresh = any(other.fresh for other in mine)
        yield Move(label="take over" if fresh else f"take: {work.value}", place=taken, takeover=fresh)

    def _asks(self, before: RunRow, taken: RunRow) -> bool:
        found = TakenRun(run=taken, called_at=before.called_at, owner=before.owner)
        probed = before.step in self._service.scenario.probed
        return self._rules.question(found, MEMORY, probed=probed) is Question.PROBE

    # --- at the gateway ----------------------------------------------------------------------------------------

    def _reach(self, place: Place, call: OutsideCall) -> Iterator[Move]:
        step = self._topology.steps[call.key.step]
        row = place.run(call.key)
        assert row is not None
        mark = place.mark(row.key)
        if call.work is Work.COMPENSATE:
            undone = self._service.undone(place, row, repeatable=True)
            yield self._returned("call: undone", undone, call, OK)
            yield self._returned("call: undone, answer lost", undone, call, self._raised)
            yield self._returned("call: not undone", place, call, self._raised)
            return
        if mark is not None:
            yield self._returned("call: same answer", place, call, _same(mark))
            yield self._returned("call: same answer lost", place, call, self._raised)
            return
        if call.probe:
            yield self._returned("probe: nothing found", place, call, self._nothing_found(place, call, row))
            yield self._returned("probe: no answer", place, call, self._raised)
            return
        yield self._returned("call: never arrived", place, call, self._raised)
        for emitted in outcomes(step, self._service.scenario.counts):
            there = place.marked(live(row, emitted))
            yield self._returned("call: happened", there, call, emitted)
            yield self._returned("call: happened, answer lost", there, call, self._raised)
        for refusal in step.refuses:
            no = place.marked(Mark(key=row.key, standing=Standing.REFUSED, emitted=refusal, causes=row.causes))
            yield self._returned("call: refused", no, call, Refused(type=refusal, payload=b"{}"))
            yield self._returned("call: refused, answer lost", no, call, self._raised)

    def _nothing_found(self, place: Place, call: OutsideCall, row: RunRow) -> AnswerFromOutside:
        """Say what the production rule makes of it: the time a call may be under way has passed when none is."""
        others = {*place.calls} - {call}
        under_way = any(other.key == call.key and not other.probe and other.answer is None for other in others)
        asked_at = NOW if under_way else NOW + MEMORY.max_in_flight
        taken = TakenRun(run=replace(row, called_at=asked_at, first_called_at=NOW), called_at=NOW)
        attempts = self._service.scenario.call_attempts
        return self._rules.nothing_found(taken, MEMORY, attempts=attempts, now=asked_at)

    @staticmethod
    def _returned(label: str, place: Place, call: OutsideCall, answer: AnswerFromOutside) -> Move:
        calls = {*place.calls} - {call} | {replace(call, answer=answer)}
        return Move(label=label, place=replace(place, calls=sorted_calls(calls)))

    # --- back home -----------------------------------------------------------------------------------------------

    def _store(self, place: Place, call: OutsideCall, answer: AnswerFromOutside) -> Iterator[Move]:
        rules, service = self._rules, self._service
        place = replace(place, calls=sorted_calls({*place.calls} - {call}))
        current = place.run(call.key)
        assert current is not None
        taken = replace(current, revision=STORED if call.fresh else STORED - 1)
        if rules.is_stale(taken, current):
            yield Move(label="answer stale", place=place)
        elif call.work is not Work.COMPENSATE:
            turn = rules.answered(self._topology, current, place.gate, place.runs, answer, NOW)
            yield service.turned(f"answer {type(answer).__name__.lower()}", place, turn)
        elif isinstance(answer, Raised):
            attempts = 1 if current.step in service.scenario.sticks else service.scenario.call_attempts + 1
            turn = rules.compensation_raised(current, "boom", attempts=attempts, retry_at=NOW)
            yield service.turned("compensation raised", place, turn)
        else:
            if self._topology.steps[current.step].undoing is Undoing.LOCAL:
                place = service.undone(place, current)
            yield service.turned("compensation done", place, rules.compensated(current, NOW))


def _same(mark: Mark) -> AnswerFromOutside:
    if mark.standing is Standing.REFUSED:
        return Refused(type=mark.emitted, payload=b"{}")
    return Emitted(type=mark.emitted, payload=b"", fan_out=mark.fan_out)
