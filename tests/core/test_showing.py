from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import orjson
import pytest
from pydantic import BaseModel

from saga import PII, Event, Secret
from saga._core.bodies import RefusalData, RunFact
from saga._core.events import MARK_KEY
from saga._core.gathering import GATHERED_TYPE, array_of
from saga._core.instance import Instance
from saga._core.rows import InstanceRow
from saga._core.schemas import needs_of, schema_of
from saga._core.sealing import SealedPayload, refer_to, write_sealed
from saga._core.showing import LARGEST_BYTES, bare_delivery, bare_instance, bare_run, run_payloads, view
from saga._core.stored_instance import instance_of, instance_row
from saga._core.whole import Payloads, PayloadView, Shown
from saga._core.words import Cause, Reason, RunStatus
from tests.contracts.store_rows import NOW, full_run, run, waiting


class Address(BaseModel):
    street: Annotated[str, PII]
    city: str


class Person(BaseModel):
    name: Annotated[str, PII] = ""
    friends: list[Person] = []


class Company(BaseModel):
    name: str
    vat: Annotated[str, Secret]


class Moved(Event, name="guest.moved", version=1):
    guest: Annotated[str | None, PII]
    to: Address
    before: list[Address]
    by_year: dict[str, Address]
    owner: Person | Company
    pair: tuple[int, Annotated[int, Secret]]
    note: str = ""


SCHEMAS: dict[str, Any] = {Moved.wire_type: orjson.loads(schema_of(Moved).schema)}
SECRETS = ("Ada", "Elm Street", "Grace", "DE-7", "4711")


def moved(**changed: Any) -> bytes:
    body: dict[str, Any] = {
        "guest": "Ada",
        "to": {"street": "Elm Street 1", "city": "Rome"},
        "before": [{"street": "Elm Street 2", "city": "Oslo"}],
        "by_year": {"1999": {"street": "Elm Street 3", "city": "Paris"}},
        "owner": {"name": "Grace", "friends": [{"name": "Ada", "friends": []}], "vat": "DE-7"},
        "pair": [1, 4711],
        "note": "plain",
    }
    return orjson.dumps(body | changed)


def shown(payload: bytes, payloads: Payloads = Payloads.ALLOWED, wire_type: str = Moved.wire_type) -> PayloadView:
    return view(wire_type, payload, SCHEMAS, payloads)


def test_marks_travel_in_the_schema_and_change_no_need() -> None:
    assert schema_of(Moved).schema.count(MARK_KEY) >= 5
    assert [field.types for field in needs_of(Moved).fields if field.name == "guest"] == [("null", "string")]


def test_marked_fields_are_hidden_wherever_they_are() -> None:
    found = shown(moved())
    assert found.shown is Shown.REDACTED
    for word in SECRETS:
        assert word not in found.text
    for word in ("Rome", "Oslo", "Paris", "plain"):
        assert word in found.text
    body = orjson.loads(found.text)
    assert body["guest"] == "<PII>"
    assert body["pair"] == [1, "<secret>"]


def test_alternatives_hide_what_any_of_them_hides() -> None:
    body = orjson.loads(shown(moved(owner={"name": "Acme", "vat": "DE-7"})).text)
    assert body["owner"] == {"name": "<PII>", "vat": "<secret>"}


def test_a_payload_without_marks_is_whole() -> None:
    schemas: dict[str, Any] = {"a.b.v1": {"properties": {"n": {"type": "integer"}}}}
    assert view("a.b.v1", b'{"n":1}', schemas, Payloads.ALLOWED) == PayloadView(
        shown=Shown.WHOLE, type="a.b.v1", bytes=7, text='{\n  "n": 1\n}'
    )


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", Shown.NONE),
        (b"{", Shown.UNREADABLE),
        (b'"' + b"x" * LARGEST_BYTES + b'"', Shown.LARGE),
        (write_sealed(SealedPayload(codec="aes", key_id="k1", data=b"Ada")), Shown.SEALED),
        (refer_to("key", b"Ada"), Shown.ELSEWHERE),
        (b'"saga-sealed.v1.cut', Shown.UNREADABLE),
    ],
)
def test_what_cannot_be_shown_is_named(payload: bytes, expected: Shown) -> None:
    found = shown(payload)
    assert (found.shown, found.text) == (expected, "")


def test_nobody_sees_what_is_not_allowed_or_of_unknown_marks() -> None:
    assert shown(moved(), Payloads.HIDDEN).shown is Shown.HIDDEN
    assert shown(moved(), wire_type="other.v1") == PayloadView(shown=Shown.UNKNOWN, type="other.v1", bytes=len(moved()))


def test_a_payload_nested_without_end_is_cut() -> None:
    schema: dict[str, Any] = {
        "a.v1": {"$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}}}, "$ref": "#/$defs/N"}
    }
    deep: object = "Ada"
    for _ in range(60):
        deep = {"n": deep}
    found = view("a.v1", orjson.dumps(deep), schema, Payloads.ALLOWED)
    assert "<too deep>" in found.text
    assert "Ada" not in found.text


def test_joins_and_fan_outs_are_shown_event_by_event() -> None:
    gathered = {
        "guest.moved.v1": {"1of2": ["guest.moved.v1", moved().decode()], "2of2": ["guest.moved.v1", moved().decode()]},
        "other.v1": {"": ["other.v1", "{}"]},
    }
    joined = replace(run("s"), input=orjson.dumps(gathered), input_type=GATHERED_TYPE)
    fanned = replace(joined, result=array_of([moved(), b"{}"]), result_type=Moved.wire_type, fan_out=2)
    found = run_payloads(fanned, SCHEMAS, Payloads.ALLOWED)
    assert [one.shown for one in found.inputs] == [Shown.REDACTED, Shown.REDACTED, Shown.UNKNOWN]
    assert [one.shown for one in found.results] == [Shown.REDACTED, Shown.WHOLE]
    assert not any(word in repr(found) for word in SECRETS)
    assert run_payloads(run("s"), SCHEMAS, Payloads.ALLOWED).inputs == ()


# --- rows without payloads -----------------------------------------------------------------------------------


def refused() -> InstanceRow:
    refusal = RefusalData(type="card.declined.v1", data=b'{"card":"4711"}')
    fact = RunFact(step="bank.pay", status=RunStatus.REFUSED, at=NOW, refusal=refusal)
    plain = RunFact(step="hotel.reserve", status=RunStatus.DONE, at=NOW)
    instance = Instance(
        saga_id="s",
        expires_at=NOW + timedelta(days=7),
        runs={fact.key: fact, plain.key: plain},
        cause=Cause.REFUSED,
        detail="bank.pay",
        refusal=refusal,
    )
    return instance_row(instance, saga="trip", version=1, plan="h", tenant="", partition=0, revision=1, started_at=NOW)


def test_a_bare_instance_has_everything_but_the_payloads_of_refusals() -> None:
    row = bare_instance(refused())
    assert b"4711" not in row.state
    before, after = instance_of(refused()), instance_of(row)
    assert after.refusal == RefusalData(type="card.declined.v1", data=b"")
    assert after.runs.keys() == before.runs.keys()
    assert replace(after, refusal=None, runs={}) == replace(before, refusal=None, runs={})
    assert replace(row, state=b"") == replace(refused(), state=b"")


def test_bare_rows_have_no_payload() -> None:
    bare = bare_run(full_run("s"))
    assert (bare.input, bare.result, bare.outcome) == (None, None, b"{}")
    assert bare_run(run("s")).outcome is None
    waits = waiting("s", NOW, Reason.RETRY)
    raw = bare_delivery(replace(waits, raw=replace(waits.raw, value=b"Ada"))).raw
    assert (raw.value, raw.headers, raw.offset) == (None, (), waits.raw.offset)


# --- what is said of a saga in its row -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("", "")),
        (
            {"cause": Cause.REFUSED, "detail": "bank.pay", "refusal": RefusalData(type="no.v1", data=b"4711")},
            ("bank.pay", "refused: bank.pay: no.v1"),
        ),
        ({"cause": Cause.DEADLINE, "detail": "the saga's timeout passed"}, ("", "deadline: the saga's timeout passed")),
        (
            {"cause": Cause.DEADLINE, "detail": "a.b/2of5 was not done within its time"},
            ("a.b", "deadline: a.b/2of5 was not done within its time"),
        ),
        ({"cause": Cause.CANCELLED}, ("", "cancelled")),
        ({"cause": Cause.FAILED, "detail": "a.b: c.d: no"}, ("a.b", "failed: a.b: c.d: no")),
        (
            {"cause": Cause.CANCELLED, "stuck": Cause.UNDO_FAILED, "stuck_detail": "a-b.c_d: away"},
            ("a-b.c_d", "undo_failed: a-b.c_d: away"),
        ),
        ({"stuck": Cause.TOO_LATE, "stuck_detail": "stock: expired"}, ("", "too_late: stock: expired")),
        ({"cause": Cause.CANCELLED, "detail": "see example.com for more"}, ("", "cancelled: see example.com for more")),
    ],
)
def test_a_row_says_what_is_wrong_and_at_which_step(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    instance = replace(Instance(saga_id="s", expires_at=NOW), **fields)
    row = instance_row(instance, saga="a", version=1, plan="h", tenant="", partition=0, revision=0, started_at=NOW)
    assert (row.step, row.error) == expected
