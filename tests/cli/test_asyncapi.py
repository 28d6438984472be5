"""Write AsyncAPI documents: what is in them, whether they are sound, and whether real messages fit them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from saga._core.asyncapi import asyncapi
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan
from saga._core.resolve import resolve_all
from saga._core.words import Kind
from saga.cli.asyncapis import yaml_text
from tests.cli.test_commands import CHECKOUT, cwd, fresh_modules, saga, shop
from tests.core import checkout
from tests.core.json_schema import wrong
from tests.core.wire_examples import messages
from tests.testbed.asyncapi_parser import NoParser, validate

__all__ = ["cwd", "fresh_modules", "shop"]

pytestmark = pytest.mark.usefixtures("shop")
Json = dict[str, Any]

NESTED = """
from __future__ import annotations
from pydantic import BaseModel, Field
from saga import NOTHING, Event, Run, Saga, Service

tree = Saga("tree", version=1)
garden = Service("garden")

class Branch(BaseModel):
    name: str = Field(max_length=20)
    branches: list[Branch] = []

class Planted(Event, name="tree.planted", version=2):
    root: Branch
    where: dict[str, Branch | None]

class Grown(Event, name="tree.grown", version=1):
    metres: float

plant = garden.starts(tree, Planted)

@garden.step(tree, compensation=NOTHING)
async def grow(planted: Planted, run: Run) -> Grown: ...
"""


def document(**options: str) -> Json:
    manifests = [manifest_of(each) for each in resolve_all(checkout.SERVICES)]
    return asyncapi([build_plan("checkout", 1, manifests)], manifests, **options)


def written(*arguments: str) -> Json:
    said = saga("asyncapi", *arguments, "-o", "out.json")
    assert (said.code, said.out, said.err) == (0, "", "")
    found: Json = json.loads(Path("out.json").read_text())
    return found


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        found = cast("Json", value)
        if isinstance(found.get("$ref"), str):
            yield found["$ref"]
        for each in found.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            yield from references(each)


def followed(found: Json, reference: str) -> Any:
    value: Any = found
    for part in reference.removeprefix("#/").split("/"):
        value = value[part]
    return value


def names(found: Json, operation: str) -> set[str]:
    return {reference["$ref"].rpartition("/")[2] for reference in found["operations"][operation]["messages"]}


def test_channels_are_the_topics_of_the_wire() -> None:
    services = ("orders", "inventory", "payment", "shipping")
    plain = {f"{service}.{kind}" for service in services for kind in ("events", "commands")} | {"saga.outcomes"}
    assert set(document()["channels"]) == plain | {f"{topic}.urgent" for topic in plain} | {"saga.runs"}
    for topic, channel in document()["channels"].items():
        assert channel["address"] == channel["bindings"]["kafka"]["topic"] == topic


def test_operations_say_who_sends_and_who_receives() -> None:
    found = document()
    assert names(found, "orders.send.orders.events") == {"order.placed.v1"}
    assert names(found, "inventory.receive.orders.events") == {"order.placed.v1"}
    assert "payment.receive.orders.events" not in found["operations"]
    assert names(found, "saga-coordinator.send.inventory.commands") == {
        f"saga.{kind}" for kind in ("close", "undo", "hold", "release", "keep", "retry", "skip", "resolve")
    }
    assert names(found, "orders.receive.saga.outcomes") == {"saga.outcome"}
    assert "payment.receive.saga.outcomes" not in found["operations"]
    reports = names(found, "payment.send.saga.runs")
    assert reports == names(found, "saga-coordinator.receive.saga.runs")
    every = {each for operation in found["operations"] for each in names(found, operation)}
    assert {f"saga.{kind.value}" for kind in Kind if kind is not Kind.EVENT} < every


def test_every_reference_leads_somewhere_and_every_message_of_an_operation_is_on_its_channel() -> None:
    found = document()
    for reference in references(found):
        followed(found, reference)
    for operation in found["operations"].values():
        channel = followed(found, operation["channel"]["$ref"])
        for reference in operation["messages"]:
            assert reference["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")
            assert reference["$ref"].rpartition("/")[2] in channel["messages"]


def headers_of(name: str) -> dict[str, str]:
    return {key: value.decode() for key, value in messages()[name].headers}


KNOWN = ("saga.", "order.placed.v1", "stock.reserved.v1")
FITTING = [name for name in messages() if name != "plain-event" and headers_of(name)["ce_type"].startswith(KNOWN)]


@pytest.mark.parametrize("name", FITTING)
def test_messages_of_the_wire_fit_the_document(name: str) -> None:
    example = messages()[name]
    found = document()
    component = found["components"]["messages"][headers_of(name)["ce_type"]]
    assert list(wrong(headers_of(name), component["headers"], found)) == []
    value = json.loads(example.value or b"")
    assert list(wrong(value, component["payload"], found)) == []


def test_every_kind_is_held_against_the_document() -> None:
    assert {headers_of(name)["ce_sagakind"] for name in FITTING} == set(Kind)


def test_what_does_not_fit_is_seen() -> None:
    found = document()
    skip = followed(found, "#/components/messages/saga.skip")
    assert list(wrong({"run": "a.b", "reason": "x"}, skip["payload"], found)) == [": part is missing"]
    headers = {key: value.decode() for key, value in messages()["event"].headers}
    event = followed(found, "#/components/messages/stock.reserved.v1")["headers"]
    assert list(wrong(headers | {"ce_sagabranch": "2/5"}, event, found))
    assert list(wrong(headers | {"ce_sagakind": "run"}, event, found))
    del headers["ce_sagastep"]
    assert list(wrong(headers, event, found)) == [": ce_sagastep is missing"]


def test_one_service_is_described_alone() -> None:
    found = written(CHECKOUT, "--service", "inventory")
    assert set(found["operations"]) == {
        f"inventory.{what}{lane}"
        for lane in ("", ".urgent")
        for what in ("send.inventory.events", "receive.orders.events", "receive.inventory.commands")
    } | {"inventory.send.saga.runs"}
    assert "payment.captured.v1" not in found["components"]["messages"]
    assert "event.payment.captured.v1" not in found["components"]["schemas"]
    said = saga("asyncapi", CHECKOUT, "--service", "stock")
    assert said.code == 1
    assert "no service 'stock' takes part in these plans; known: inventory, orders," in said.err


def test_nested_models_become_schemas_of_their_own() -> None:
    Path("nested.py").write_text(NESTED)
    found = written("nested:garden")
    schemas = found["components"]["schemas"]
    branch = "#/components/schemas/event.tree.planted.v2.Branch"
    assert schemas["event.tree.planted.v2"]["properties"]["root"] == {"$ref": branch}
    assert schemas["event.tree.planted.v2.Branch"]["properties"]["branches"]["items"] == {"$ref": branch}
    for reference in references(found):
        followed(found, reference)


def test_plan_files_know_no_payloads() -> None:
    saga("plan", "shop:services")
    found = written("plans")
    assert found["components"]["schemas"]["event.room.asked.v1"] == {"type": "object"}
    assert found["info"]["version"] == "1.1.0"


def test_two_sagas_stand_in_one_document() -> None:
    found = written("shop:services", CHECKOUT, "--server", "kafka://user:secret@broker:9092,other:9092")
    assert [plan["saga"] for plan in found["info"]["x-saga-plans"]] == ["booking", "checkout"]
    assert found["servers"] == {"broker": {"host": "broker:9092", "protocol": "kafka"}}
    assert written("shop:services", CHECKOUT, "--saga", "booking")["info"]["title"] == "Sagas: booking v1"


def test_a_wrong_use_is_told() -> None:
    assert saga("asyncapi", CHECKOUT, "-o", "out.xml").code == 2
    assert saga("asyncapi", CHECKOUT, "--server", "broker:9092").code == 1
    assert saga("asyncapi", CHECKOUT, "--saga", "chekout").code == 2


def test_yaml_on_standard_output_is_the_same_document() -> None:
    said = saga("asyncapi", CHECKOUT)
    assert yaml.safe_load(said.out) == written(CHECKOUT) == document()


TEXT = st.text(st.characters(codec="utf-8"))
ODD = st.sampled_from(["no", "1e3", "0x1", "- a", "a: b", "#", "~", "=", "1:30", "a/b", "\u2028"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(TEXT, JSON, min_size=1, max_size=4))
def test_yaml_reads_back_as_it_was(value: Json) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


def test_the_official_parser_finds_nothing_wrong() -> None:
    Path("nested.py").write_text(NESTED)
    saga("plan", "shop:services")
    documents = [
        saga("asyncapi", *arguments).out
        for arguments in (
            (CHECKOUT, "shop:services", "--server", "kafka://broker:9092"),
            (CHECKOUT, "--service", "payment"),
            ("nested:garden",),
            ("plans",),
        )
    ]
    try:
        *sound, broken = validate(*documents, documents[0].replace("action: send", "action: shout", 1))
    except NoParser as error:
        pytest.skip(str(error))
    for verdict in sound:
        assert verdict.valid
        # It always says that there is a newer version of AsyncAPI.
        assert [said for said in verdict.said if said[1] != "asyncapi-latest-version"] == []
    assert not broken.valid
