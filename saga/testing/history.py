"""Remember what was committed, in the order it was, and tell it in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from saga._core.records import decode_outcome
from saga._core.rows import Changes, CoordinatorChanges, DeliveryRow, GateRow, InstanceRow, RunRow
from saga._core.stored_instance import instance_of
from saga._core.words import GateState, RunStatus, UndoStatus
from saga.ports import Clock
from saga.testing.faults import COORDINATOR
from saga.testing.virtual import EPOCH

PAYLOAD_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Be one thing that happened; `saga_id` is empty for what concerns no saga in particular."""

    at: datetime
    saga_id: str
    text: str


def _clock(at: datetime) -> str:
    seconds = (at - EPOCH).total_seconds()
    hours, rest = divmod(seconds, 3600)
    return f"{int(hours):3}:{int(rest // 60):02}:{rest % 60:06.3f}"


@dataclass(slots=True, kw_only=True)
class History:
    """Keep what the services and the coordinator have committed, and which faults have struck.

    `done` and `undone` hold (saga ID, step, branch) in the order of the commits, each once. `phases` is what the
    coordinator's rows say of each saga.
    """

    clock: Clock
    happened: list[Happened] = field(default_factory=list[Happened])
    done: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    undone: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    problems: list[str] = field(default_factory=list[str])
    _runs: dict[tuple[str, str, str], RunRow] = field(default_factory=dict[tuple[str, str, str], RunRow])
    _gates: dict[tuple[str, str], GateState] = field(default_factory=dict[tuple[str, str], GateState])
    phases: dict[str, str] = field(default_factory=dict[str, str])

    def note(self, text: str, saga_id: str = "") -> None:
        """Remember something; does not block."""
        self.happened.append(Happened(at=self.clock.now(), saga_id=saga_id, text=text))

    def tell(self, saga_id: str | None = None) -> str:
        """Return what has happened, one line each: all of it, or what concerns one saga.

        Several sagas are told apart by a number, `[1]` for the one that was heard of first.
        """
        told = [one for one in self.happened if saga_id is None or one.saga_id in ("", saga_id)]
        sagas = dict.fromkeys(one.saga_id for one in told if one.saga_id)
        several = {one: f"[{number}] " for number, one in enumerate(sagas, 1)} if len(sagas) > 1 else {}
        mine = [f"{_clock(one.at)}  {several.get(one.saga_id, '')}{one.text}" for one in told]
        return "\n".join(["What happened:", *(f"  {line}" for line in mine or ["nothing"])])

    # --- what was committed ---

    def committed(self, several: Iterable[Changes]) -> None:
        """Take in what a service's transaction has written."""
        for changes in several:
            for run in (*changes.insert_runs, *changes.update_runs):
                self._run(run)
            for gate in changes.gates:
                self._gate(gate)
            for row in (*changes.insert_deliveries, *changes.update_deliveries):
                self._waiting(row)

    def coordinated(self, changes: CoordinatorChanges) -> None:
        """Take in what a transaction of the coordinator has written."""
        for row in changes.instances:
            self._instance(row)

    def _run(self, run: RunRow) -> None:
        key = (run.saga_id, run.step, run.branch)
        before = self._runs.get(key)
        self._runs[key] = run
        for text in _steps_of(before, run):
            self.note(text, run.saga_id)
        if run.status is RunStatus.DONE and key not in self.done:
            self.done.append(key)
        if run.undo is UndoStatus.DONE and key not in self.undone and run.status is RunStatus.DONE:
            self.undone.append(key)
        if before is not None and before.status is RunStatus.DONE and run.result != before.result:
            self.problems.append(f"{_named(run)} was done twice, with two results")
        if (
            before is not None
            and before.undo is UndoStatus.DONE
            and (before.undo, before.status)
            != (
                run.undo,
                run.status,
            )
        ):
            self.problems.append(f"{_named(run)} went on after it was undone")

    def _gate(self, gate: GateRow) -> None:
        if self._gates.get((gate.saga_id, gate.service), GateState.OPEN) is not gate.state:
            self.note(f"{gate.service} is {gate.state.value} for the saga", gate.saga_id)
        self._gates[gate.saga_id, gate.service] = gate.state

    def _waiting(self, row: DeliveryRow) -> None:
        what = row.step or row.service
        text = f"{what}: attempt {row.attempt} failed" if row.reason == "retry" else f"{what}: {row.reason}"
        self.note(f"{text}: {row.error}" if row.error else text, row.saga_id)

    def _instance(self, row: InstanceRow) -> None:
        if self.phases.get(row.saga_id) == row.phase:
            return
        self.phases[row.saga_id] = row.phase
        instance = instance_of(row)
        cause = instance.stuck or instance.cause
        because = f", because of {cause.value}" if cause else ""
        detail = instance.stuck_detail or instance.detail
        self.note(f"{COORDINATOR}: {row.phase}{because}{f' ({detail})' if detail else ''}", row.saga_id)


def _named(run: RunRow) -> str:
    return f"{run.step}/{run.branch}" if run.branch else run.step


def _steps_of(before: RunRow | None, run: RunRow) -> Sequence[str]:
    """Return what is new of a run, in words."""
    told: list[str] = []
    name = _named(run)
    if before is None or before.status is not run.status:
        told.append(f"{name} {_status(run)}")
    elif run.attempt > before.attempt and run.error:
        told.append(f"{name}: attempt {run.attempt} failed: {run.error}")
    if run.undo is not (before.undo if before is not None else UndoStatus.NONE):
        told.append(f"{name}: {_undo(run)}")
    if run.outcome is not None and (before is None or before.outcome != run.outcome):
        told.append(f"the saga has ended: {decode_outcome(run.outcome).ending.value}")
    return told


def _status(run: RunRow) -> str:
    payload = (run.result or b"").decode(errors="replace")[:PAYLOAD_CHARS]
    result = f": {run.result_type} {payload}" if run.result_type else ""
    match run.status:
        case RunStatus.DONE:
            return f"done{result}"
        case RunStatus.REFUSED:
            return f"refused{result}"
        case RunStatus.FAILED:
            return f"failed: {run.error}"
        case RunStatus.INTENT:
            return "is to be called"
        case _:
            return run.status.value


def _undo(run: RunRow) -> str:
    match run.undo:
        case UndoStatus.DONE:
            return "undone" if run.status is RunStatus.DONE else "never runs"
        case UndoStatus.FAILED:
            return f"could not be undone: {run.error}"
        case _:
            return f"undo {run.undo.value}"
