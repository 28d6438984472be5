"""Take part in sagas by docs/protocol.md alone, with the standard library and nothing of this project.

It hosts local steps that react to one event each; joins, delays and outside calls are left out.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

Headers = Sequence[tuple[str, bytes]]
Json = dict[str, Any]

TABLES = """
create table if not exists plan (hash text primary key, body text not null);
create table if not exists kept (id integer primary key, topic text, headers text, value blob);
create table if not exists gate (saga text primary key, state text not null default 'open',
  held integer not null default 0, number integer not null default 0, until text not null default '');
create table if not exists run (saga text, step text, branch text, fact text not null, result text,
  undo text not null default 'none', primary key (saga, step, branch));
create table if not exists outbox (id integer primary key, topic text, key text, headers text, value blob);
"""
COPIED = ("ce_sagaid", "ce_sagaplan", "ce_expirytime", "ce_sagatenant", "ce_sagalane")


class Refused(Exception):
    """A business no: the type it has on the wire, and its payload."""

    def __init__(self, wire_type: str, payload: Json) -> None:
        super().__init__(wire_type)
        self.type, self.payload = wire_type, payload


@dataclass(frozen=True)
class Step:
    """Action: (connection, payload) -> (type, payload), a list of payloads for a fan-out, or None; and its undo."""

    action: Callable[[sqlite3.Connection, Json], tuple[str, Json | list[Json]] | None]
    undo: Callable[[sqlite3.Connection, Json | list[Json] | None], None]
    attempts: int = 3


class Participant:
    """One service. `take` deals with a message in one transaction; `outgoing` is what is to be sent."""

    def __init__(self, service: str, steps: dict[str, Step], database: str, now: Callable[[], datetime]) -> None:
        self.service, self.steps, self.now = service, steps, now
        self.db = sqlite3.connect(database, isolation_level=None)
        self.db.executescript(TABLES)

    def topics(self, plan: Json) -> set[str]:
        """What the service reads because of a plan, both lanes."""
        found = {f"{self.service}.commands"}
        for step in plan["steps"]:
            if step["name"] in self.steps:
                found |= {f"{name.partition('.')[0]}.events" for name in senders(plan, step["reacts_to"])}
        return found | {f"{topic}.urgent" for topic in found}

    # --- what comes in ---------------------------------------------------------------------------------------

    def learn(self, key: str, value: bytes | None) -> None:
        """Take a message of saga.plans; what waited for the plan goes on."""
        if key.startswith("plan/") and value is not None:
            body = json.loads(value)
            self.db.execute("insert or ignore into plan values (?, ?)", (body["hash"], value.decode()))
            self.again()

    def again(self) -> None:
        """Look again at what has been kept."""
        for row, topic, headers, value in self.db.execute("select * from kept order by id").fetchall():
            self.db.execute("delete from kept where id = ?", (row,))
            self.take(topic, [(name, text.encode()) for name, text in json.loads(headers)], value)

    def take(self, topic: str, headers: Headers, value: bytes) -> None:
        """Deal with one message; everything it leads to is one transaction."""
        head = {name: text.decode() for name, text in headers}
        if not head.get("ce_sagakind"):
            return  # a plain event
        self.db.execute("begin immediate")
        try:
            if head["ce_sagakind"] == "event":
                self.event(topic, head, value)
            else:
                self.command(topic, head, json.loads(value), value)
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")

    def event(self, topic: str, head: dict[str, str], value: bytes) -> None:
        found = self.db.execute("select body from plan where hash = ?", (head["ce_sagaplan"],)).fetchone()
        if found is None:
            return self.keep(topic, head, value)
        plan = json.loads(found[0])
        branch = head.get("ce_sagabranch", "")
        sources = {name.partition(".")[0] for name in senders(plan, head["ce_type"])}
        if topic.removesuffix(".urgent") not in {f"{source}.events" for source in sources} or branch == "0of0":
            return None
        for step in plan["steps"]:
            if step["reacts_to"] == head["ce_type"] and step["name"] in self.steps:
                self.meet(plan, step["name"], branch, topic, head, value)
        return None

    def meet(self, plan: Json, step: str, branch: str, topic: str, head: dict[str, str], value: bytes) -> None:
        saga = head["ce_sagaid"]
        if self.run(saga, step, branch) is not None:
            return
        state, held, _, until = self.gate(saga)
        if state == "closed":
            return
        if held:
            self.keep(topic, head, value)
            return
        if not self.before(max(head["ce_expirytime"], until)):
            return
        emitter = head["ce_sagastep"]
        fans_out = any(s["name"] == emitter and s.get("fan_out") == head["ce_type"] for s in plan["steps"])
        cause = path(emitter, "" if fans_out else head.get("ce_sagabranch", ""))
        fact, result = self.execute(step, branch, json.loads(value), cause)
        self.ended(head, fact, result, head["ce_id"])

    def execute(self, step: str, branch: str, payload: Json, cause: str) -> tuple[Json, Json | list[Json] | None]:
        """Run the step in a savepoint, as often as it may be tried; returns what is known of it, and its result."""
        fact: Json = {"run": path(step, branch), "attempts": 0, "causes": [cause]}
        while True:
            fact["attempts"] += 1
            self.db.execute("savepoint step")
            try:
                emitted = self.steps[step].action(self.db, payload)
            except Refused as no:
                self.db.execute("rollback to step")
                refusal = {"type": no.type, "data": json.dumps(no.payload, separators=(",", ":"))}
                return fact | {"status": "refused", "at": self.moment(), "refusal": refusal}, None
            except Exception as error:  # noqa: BLE001 - whatever the step raises
                self.db.execute("rollback to step")
                if fact["attempts"] >= self.steps[step].attempts:
                    said = f"{type(error).__name__}: {error}"[:200]
                    return fact | {"status": "failed", "at": self.moment(), "error": said}, None
                continue
            fact |= {"status": "done", "at": self.moment()}
            if emitted is None:
                return fact, None
            wire_type, result = emitted
            fact["emits"] = [wire_type]
            return fact | ({"fan_out": len(result)} if isinstance(result, list) else {}), result

    def ended(self, about: dict[str, str], fact: Json, result: Json | list[Json] | None, causation: str) -> None:
        """Write a run that has ended: its row, its record, and its events."""
        saga = about["ce_sagaid"]
        step, _, branch = fact["run"].partition("/")
        kept = None if result is None else json.dumps(result)
        row = (saga, step, branch, json.dumps(fact), kept)
        self.db.execute("insert or replace into run (saga, step, branch, fact, result) values (?, ?, ?, ?, ?)", row)
        own = {"ce_causationid": causation, "ce_sagastep": step, "ce_sagabranch": branch}
        self.send("saga.runs", about, "run", f"{saga}/{fact['run']}#run-{fact['status']}", fact, own)
        if result is None:
            return
        events: list[tuple[str, Json]] = [(branch, result)] if isinstance(result, dict) else []
        if isinstance(result, list):
            events = [(f"{n}of{len(result)}", each) for n, each in enumerate(result, 1)] or [("0of0", {})]
        for place, payload in events:
            own = {"ce_causationid": causation, "ce_sagastep": step, "ce_sagabranch": place}
            topic = f"{self.service}.events"
            self.send(topic, about, "event", f"{saga}/{path(step, place)}", payload, own, wire_type=fact["emits"][0])

    # --- what the coordinator wants --------------------------------------------------------------------------

    def command(self, topic: str, head: dict[str, str], body: Json, value: bytes) -> None:
        saga, kind = head["ce_sagaid"], head["ce_sagakind"]
        state, held, number, until = self.gate(saga)
        match kind:
            case "close":
                self.close(head)
            case "undo" if held:
                self.keep(topic, head, value)
            case "undo":
                self.undo(head, body["run"], retry=False)
            case "hold" | "release":
                if body["number"] >= number:
                    self.put(saga, state, int(kind == "hold"), body["number"], until)
                self.obeyed(head, body["number"])
            case "keep":
                self.put(saga, state, held, number, max(until, body["until"]))
                self.obeyed(head, int(parsed(body["until"]).timestamp()))
            case "retry":
                self.undo(head, body["run"], retry=True)
            case "skip" if body["part"] == "compensation":
                self.shut(saga)
                self.mark(saga, body["run"], "done")
                self.undone(head, body["run"])
            case "skip":
                self.skip(head, body)
            case _:
                pass  # resolve: nothing here calls outside

    def close(self, head: dict[str, str]) -> None:
        saga = head["ce_sagaid"]
        rows = self.db.execute("select fact, undo from run where saga = ? order by step, branch", (saga,)).fetchall()
        known = self.db.execute("select state from gate where saga = ?", (saga,)).fetchone()
        if known is None and not rows and not self.before(head["ce_expirytime"]):
            body = {"service": self.service, "reason": "no row of the saga after the expiry"}
            self.answer(head, "too_late", f"{saga}/{self.service}#too_late", body)
            return
        self.shut(saga)
        facts = [json.loads(fact) | ({"undo": undo} if undo != "none" else {}) for fact, undo in rows]
        self.answer(head, "closed", f"{saga}/{self.service}#closed", {"service": self.service, "runs": facts})

    def undo(self, head: dict[str, str], run: str, *, retry: bool) -> None:
        saga = head["ce_sagaid"]
        step, _, branch = run.partition("/")
        row = self.run(saga, step, branch)
        if retry and (row is None or row[2] != "failed"):
            return  # nothing of ours waits for an attempt
        if row is None and not self.before(head["ce_expirytime"]):
            body = {"service": self.service, "run": run, "reason": "no run row after the expiry"}
            self.answer(head, "too_late", f"{saga}/{run}#too_late", body)
            return
        self.shut(saga)
        if row is None or row[2] == "done":
            self.undone(head, run)
            return
        fact, result, undo = json.loads(row[0]), json.loads(row[1] or "null"), row[2]
        error = "" if undo != "failed" or retry else fact.get("undo_error", "?")
        if fact["status"] == "done" and not error:
            error = self.compensate(self.steps[step], result)
        if error:
            self.mark(saga, run, "failed")
            self.answer(head, "undo_failed", f"{saga}/{run}#undo_failed", {"run": run, "reason": error[:500]})
            return
        self.mark(saga, run, "done")
        self.undone(head, run)

    def compensate(self, step: Step, result: Json | list[Json] | None) -> str:
        """Return "" once the compensation has succeeded, else what it raised the last time."""
        error = ""
        for _ in range(step.attempts):
            self.db.execute("savepoint undo")
            try:
                step.undo(self.db, result)
            except Exception as raised:  # noqa: BLE001 - whatever the compensation raises
                self.db.execute("rollback to undo")
                error = f"{type(raised).__name__}: {raised}"
            else:
                return ""
        return error

    def skip(self, head: dict[str, str], body: Json) -> None:
        saga = head["ce_sagaid"]
        step, _, branch = body["run"].partition("/")
        row = self.run(saga, step, branch)
        if self.gate(saga)[0] != "open" or (row is not None and json.loads(row[0])["status"] != "failed"):
            return
        fact: Json = {"run": body["run"], "status": "done", "at": self.moment(), "causes": body.get("causes", [])}
        result: Json | None = None
        if "result" in body:
            fact["emits"] = [body["result"]["type"]]
            result = json.loads(base64.b64decode(body["result"]["data"]))
        cause = f"{saga}/{fact['causes'][0]}" if fact["causes"] else ""
        self.ended(head, fact, result, cause)

    # --- small things ----------------------------------------------------------------------------------------

    def obeyed(self, head: dict[str, str], number: int) -> None:
        command = head["ce_sagakind"]
        body = {"service": self.service, "command": command, "number": number}
        self.answer(head, "obeyed", f"{head['ce_sagaid']}/{self.service}#{command}-{number}-obeyed", body)

    def undone(self, head: dict[str, str], run: str) -> None:
        self.answer(head, "undone", f"{head['ce_sagaid']}/{run}#undone", {"run": run})

    def answer(self, head: dict[str, str], kind: str, ident: str, body: Json) -> None:
        self.send("saga.runs", head, kind, ident, body, {})

    def send(
        self,
        topic: str,
        about: dict[str, str],
        kind: str,
        ident: str,
        body: Json,
        own: dict[str, str],
        wire_type: str = "",
    ) -> None:
        """Write a message into the outbox; empty attributes are left out."""
        urgent = ".urgent" if about.get("ce_sagalane") == "urgent" and topic != "saga.runs" else ""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": ident,
            "ce_source": f"/saga/{self.service}",
            "ce_type": wire_type or f"saga.{kind}",
            "ce_time": self.moment(),
            "content-type": "application/json",
            "ce_sagakind": kind,
            "ce_correlationid": about["ce_sagaid"],
            **{name: about.get(name, "") for name in COPIED},
            **own,
        }
        found = json.dumps([[name, value] for name, value in headers.items() if value])
        value = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        row = (topic + urgent, about["ce_sagaid"], found, value)
        self.db.execute("insert into outbox (topic, key, headers, value) values (?, ?, ?, ?)", row)

    def outgoing(self) -> Iterable[tuple[int, str, bytes, list[tuple[str, bytes]], bytes]]:
        """Number, topic, key, headers and value of what is to be sent; `sent` forgets what has been acknowledged."""
        for number, topic, key, headers, value in self.db.execute("select * from outbox order by id").fetchall():
            yield number, topic, key.encode(), [(name, text.encode()) for name, text in json.loads(headers)], value

    def sent(self, number: int) -> None:
        self.db.execute("delete from outbox where id = ?", (number,))

    def keep(self, topic: str, head: dict[str, str], value: bytes) -> None:
        row = (topic, json.dumps(list(head.items())), value)
        self.db.execute("insert into kept (topic, headers, value) values (?, ?, ?)", row)

    def run(self, saga: str, step: str, branch: str) -> Any:
        found = "select fact, result, undo from run where saga = ? and step = ? and branch = ?"
        return self.db.execute(found, (saga, step, branch)).fetchone()

    def mark(self, saga: str, run: str, undo: str) -> None:
        step, _, branch = run.partition("/")
        change = "update run set undo = ? where saga = ? and step = ? and branch = ?"
        self.db.execute(change, (undo, saga, step, branch))

    def gate(self, saga: str) -> tuple[str, int, int, str]:
        found = self.db.execute("select state, held, number, until from gate where saga = ?", (saga,)).fetchone()
        return found or ("open", 0, 0, "")

    def put(self, saga: str, state: str, held: int, number: int, until: str) -> None:
        self.db.execute("insert or replace into gate values (?, ?, ?, ?, ?)", (saga, state, held, number, until))

    def shut(self, saga: str) -> None:
        _, held, number, until = self.gate(saga)
        self.put(saga, "closed", held, number, until)

    def before(self, text: str) -> bool:
        return self.now() < parsed(text)

    def moment(self) -> str:
        return self.now().astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: UP017 - as elsewhere


def path(step: str, branch: str) -> str:
    return f"{step}/{branch}" if branch else step


def parsed(text: str) -> datetime:
    return datetime.fromisoformat(text)


def senders(plan: Json, event: str) -> set[str]:
    """The runs that may emit an event."""
    found = {step["name"] for step in plan["steps"] if event in step["emits"]}
    return found | ({plan["start"]} if plan["start_event"] == event else set())
