"""Feed the document's examples to the participant, and hold what it says against the document's examples."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from saga._core.cloudevents import decode
from saga._core.limits import Limits
from saga._core.partition import murmur2, partition_of
from saga._core.records import decode_report
from saga._core.words import Kind
from tests.core.wire_strategies import delivery
from tests.protocol.participant import Participant, Refused, Step

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
EXAMPLE = re.compile(r"### `([a-z-]+)`\n\n```text\ntopic: (\S+)\nkey: (\S+)\n(.*?)\n\n(.*?)\n```\n", re.DOTALL)
PLAN = json.loads(re.findall(r"<!-- plan -->\n```json\n(.*?)```", TEXT, re.DOTALL)[0])
NOW = datetime(2025, 3, 1, 12, 0, 0, 41_000, tzinfo=UTC)
Json = dict[str, Any]


@dataclass(frozen=True)
class Message:
    topic: str
    key: str
    headers: dict[str, str]
    value: Json

    @property
    def kind(self) -> str:
        return self.headers["ce_sagakind"]

    def like(self, other: Message) -> bool:
        """Whether it says the same; when it was made, and its trace, are its own affair."""
        mine, theirs = (
            {name: text for name, text in each.headers.items() if name not in ("ce_time", "traceparent")}
            for each in (self, other)
        )
        return (self.topic, self.key, mine, self.value) == (other.topic, other.key, theirs, other.value)


EXAMPLES = {
    name: Message(topic, key, dict(line.split(": ", 1) for line in headers.splitlines()), json.loads(value))
    for name, topic, key, headers, value in EXAMPLE.findall(TEXT)
}


@dataclass
class Clerk:
    """Be the inventory: what it has done, and the time it goes by."""

    path: str
    now: datetime = NOW
    refuses: bool = False
    log: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        steps = {"inventory.reserve_stock": Step(action=self.reserve, undo=self.release)}
        self.participant = Participant("inventory", steps, self.path, lambda: self.now)
        plan = PLAN | {"hash": EXAMPLES["event"].headers["ce_sagaplan"]}
        self.participant.learn(f"plan/{plan['hash']}", json.dumps(plan).encode())

    def reserve(self, db: sqlite3.Connection, order: Json) -> tuple[str, Json]:
        assert (db.in_transaction, order) == (True, EXAMPLES["event-start"].value)
        if self.refuses:
            raise Refused("stock.out.v1", {"sku": "A-1"})
        self.log.append("reserve")
        return "stock.reserved.v1", {"sku": "A-1", "quantity": 2}

    def release(self, db: sqlite3.Connection, result: Json | list[Json] | None) -> None:
        assert db.in_transaction
        self.log.append(f"release {json.dumps(result)}")

    def take(self, name: str, **changes: Any) -> list[Message]:
        """Return what is said because of an example; everything of it must be what our own code can read."""
        example = EXAMPLES[name]
        headers = [(key, value.encode()) for key, value in example.headers.items()]
        self.participant.take(example.topic, headers, json.dumps(example.value | changes).encode())
        said: list[Message] = []
        for number, topic, key, head, value in list(self.participant.outgoing()):
            self.participant.sent(number)
            envelope = decode(delivery(value, tuple(head)), Limits())
            if envelope.kind is not Kind.EVENT:
                decode_report(envelope.kind, envelope.payload)
            headers_said = {name: text.decode() for name, text in head}
            said.append(Message(topic, key.decode(), headers_said, json.loads(value)))
        return said


@pytest.fixture
def clerk(tmp_path: Path) -> Clerk:
    return Clerk(path=str(tmp_path / "inventory.db"))


def test_an_event_leads_to_the_event_and_the_record_of_the_document(clerk: Clerk) -> None:
    record, event = clerk.take("event-start")
    assert record.like(EXAMPLES["run"])
    assert event.like(EXAMPLES["event"])
    assert clerk.take("event-start") == [], "a run that has ended is not run again"
    assert clerk.log == ["reserve"]


def test_a_refusal_is_the_record_of_the_document(clerk: Clerk) -> None:
    clerk.refuses = True
    (record,) = clerk.take("event-start")
    assert record.like(EXAMPLES["run-refused"])


def test_a_closed_saga_never_runs(clerk: Clerk) -> None:
    (answer,) = clerk.take("close")
    assert (answer.kind, answer.value) == ("closed", {"service": "inventory", "runs": []})
    assert clerk.take("event-start") == []
    assert clerk.take("close") == [answer], "asked again, it says the same"
    assert clerk.log == []


def test_the_list_of_a_close_has_what_was_reported(clerk: Clerk) -> None:
    clerk.take("event-start")
    (answer,) = clerk.take("close")
    assert answer.value == {"service": "inventory", "runs": [EXAMPLES["run"].value]}
    assert answer.headers["ce_id"] == EXAMPLES["closed"].headers["ce_id"].replace("shipping", "inventory")


UNDO = {"run": "inventory.reserve_stock"}


def test_an_undo_compensates_once_and_answers_each_time(clerk: Clerk) -> None:
    clerk.take("event-start")
    for _ in range(2):
        (answer,) = clerk.take("undo", **UNDO)
        assert answer.like(EXAMPLES["undone"])
    assert clerk.log == ["reserve", 'release {"sku": "A-1", "quantity": 2}']
    (closed,) = clerk.take("close")
    assert closed.value["runs"] == [EXAMPLES["run"].value | {"undo": "done"}]


def test_an_undo_of_a_run_never_heard_of_keeps_it_from_running(clerk: Clerk) -> None:
    (answer,) = clerk.take("undo", **UNDO)
    assert answer.like(EXAMPLES["undone"])
    assert clerk.take("event-start") == []


def test_a_held_saga_waits_and_an_older_hold_is_ignored(clerk: Clerk) -> None:
    (answer,) = clerk.take("hold")
    assert answer.like(EXAMPLES["obeyed"])
    assert clerk.take("event-start") == []
    assert clerk.take("undo", **UNDO) == []
    assert [said.value["number"] for said in clerk.take("release")] == [2]
    assert [said.value["number"] for said in clerk.take("hold")] == [1], "an old one is answered, and does nothing"
    clerk.participant.again()
    assert clerk.log == ["reserve", 'release {"sku": "A-1", "quantity": 2}']


def test_after_the_expiry_nothing_begins_unless_rows_are_kept(clerk: Clerk) -> None:
    clerk.now = NOW + timedelta(days=8)
    (late,) = clerk.take("close")
    assert (late.kind, late.headers["ce_id"]) == ("too_late", EXAMPLES["too-late"].headers["ce_id"])
    assert clerk.take("event-start") == []
    (kept,) = clerk.take("keep")
    assert kept.value == {"service": "inventory", "command": "keep", "number": 1741694700}
    assert [said.kind for said in clerk.take("event-start")] == ["run", "event"]


def test_a_skipped_step_emits_the_result_of_the_command(clerk: Clerk) -> None:
    record, event = clerk.take("skip")
    assert event.like(EXAMPLES["event"])
    assert record.value["status"] == "done"
    assert record.headers["ce_id"] == EXAMPLES["run"].headers["ce_id"]
    assert clerk.take("event-start") == []
    assert clerk.log == []


def test_an_urgent_saga_stays_in_its_lane(clerk: Clerk) -> None:
    start = EXAMPLES["event-start"]
    EXAMPLES["urgent"] = Message(
        "orders.events.urgent", start.key, start.headers | {"ce_sagalane": "urgent"}, start.value
    )
    record, event = clerk.take("urgent")
    assert (record.topic, event.topic) == ("saga.runs", "inventory.events.urgent")
    assert event.like(EXAMPLES["event-urgent"])


# --- the tables of the document ------------------------------------------------------------------------------


def test_the_partitions_of_the_document_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (\d{6,10}) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 4
    for key, hashed, of_eight, of_twelve in rows:
        data = key.encode()
        assert (murmur2(data), partition_of(data, 8), partition_of(data, 12)) == (
            int(hashed),
            int(of_eight),
            int(of_twelve),
        )


def test_the_ids_of_the_document_follow_from_its_arrays() -> None:
    from uuid import UUID, uuid5

    rows = re.findall(r"^\| `(\[.*\])` \| `([0-9a-f-]+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    for array, ident in rows:
        if len(ident) == 32:
            assert sha256(array.encode()).hexdigest()[:32] == ident
        else:
            space = (
                "2e88b4b4-caf4-56a0-9aa2-9a9d2a10f179" if '"step"' in array else "bbd0a47e-7103-5fb6-80d1-f45fd3aa768d"
            )
            assert str(uuid5(UUID(space), array)) == ident
        assert json.dumps(json.loads(array), separators=(",", ":"), ensure_ascii=False) == array


def test_the_hash_of_a_plan_is_what_the_document_says() -> None:
    shape = {name: value for name, value in PLAN.items() if name not in ("flow", "revision", "attempts", "hash")}
    steps = [{name: value for name, value in step.items() if name != "calls"} for step in PLAN["steps"]]
    shape["steps"] = sorted(steps, key=lambda step: str(step["name"]))
    text = json.dumps(shape, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(text.encode()).hexdigest() == PLAN["hash"]
