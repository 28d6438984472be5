"""Describe what travels between the services of sagas as an AsyncAPI 3.0 document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from saga._core.emit import COORDINATOR
from saga._core.manifest import Manifest
from saga._core.mermaid import emissions
from saga._core.plan import Plan
from saga._core.topics import OUTCOMES, RUNS, commands_topic, events_topic, in_lane
from saga._core.wire_schemas import ANYTHING, body_of, body_schemas, headers_of, referred
from saga._core.words import COMMAND_KINDS, REPORT_KINDS, Kind, Priority
from saga.errors import PlanError

Json = dict[str, Any]

VERSION = "3.0.0"
KAFKA = "0.5.0"
"""The version of the AsyncAPI bindings for Kafka."""
_DEFINITIONS = "#/$defs/"
_SEALED = "A JSON string may stand in its place: a sealed payload or one in a blob (docs/protocol.md)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """Be one operation: a service sends or receives some messages of a topic."""

    service: str
    topic: str
    sends: bool
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Be what a document describes: who says what where, and the schemas of the events, by wire type."""

    plans: tuple[Plan, ...]
    talks: tuple[Talk, ...]
    events: Mapping[str, Json] = field(default_factory=dict[str, Json])


def asyncapi(plans: Sequence[Plan], manifests: Iterable[Manifest] = (), *, service: str = "", server: str = "") -> Json:
    """Return the document of all plans as JSON values; the same plans make the same document.

    The payloads' schemas are those of `manifests`; without them an event is any object. `service` leaves only what
    one service (or `saga-coordinator`) sends and receives, `server` is `kafka://host:port` of the broker. Raises
    PlanError where no service has that name, or the server's URL is none.
    """
    described = _described(plans, manifests)
    talks = [talk for talk in described.talks if service in ("", talk.service)]
    if not talks:
        known = ", ".join(sorted({talk.service for talk in described.talks}))
        raise PlanError([f"no service {service!r} takes part in these plans; known: {known}"])
    topics = dict.fromkeys(talk.topic for talk in talks)
    said = {topic: _said(talks, topic) for topic in topics}
    names = dict.fromkeys(name for each in said.values() for name in each)
    events = {name: described.events[name] for name in names if name in described.events}
    document: Json = {"asyncapi": VERSION, "info": _info(plans, service), "defaultContentType": "application/json"}
    if server:
        document["servers"] = {"broker": _server(server)}
    document["channels"] = {topic: _channel(topic, messages) for topic, messages in said.items()}
    document["operations"] = dict(_operations(talks))
    document["components"] = {
        "messages": {name: _message(name, event=name in events) for name in names},
        "schemas": {**body_schemas(), **_payloads(events)},
        "correlationIds": {
            "saga": {"description": "The saga's ID.", "location": "$message.header#/ce_sagaid"},
        },
    }
    return document


def _said(talks: Iterable[Talk], topic: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for talk in talks if talk.topic == topic for name in talk.messages))


# --- who says what -------------------------------------------------------------------------------------------


def _described(plans: Sequence[Plan], manifests: Iterable[Manifest]) -> Described:
    schemas: dict[str, Json] = {}
    for manifest in manifests:
        for part in manifest.sagas:
            for sent_schema in part.emits:
                schemas.setdefault(sent_schema.type, orjson.loads(sent_schema.schema))
    sent: dict[str, dict[str, None]] = {}
    heard: dict[tuple[str, str], dict[str, None]] = {}
    services: dict[str, None] = {}
    for plan in plans:
        senders: dict[str, dict[str, None]] = {}
        for name, event, _ in emissions(plan):
            service = name.partition(".")[0]
            sent.setdefault(service, {})[event] = None
            senders.setdefault(event, {})[service] = None
        services |= dict.fromkeys([plan.starter, *(step.service for step in plan.steps)])
        for step in plan.steps:
            for taken in step.inputs:
                for sender in senders.get(taken.event, ()):
                    heard.setdefault((step.service, sender), {})[taken.event] = None
    talks: list[Talk] = []
    for lane in Priority:
        talks += _talks(plans, list(services), sent, heard, lane)
    events = {event: schemas.get(event, ANYTHING) for each in sent.values() for event in each}
    return Described(plans=tuple(plans), talks=tuple(talks), events=events)


def _talks(
    plans: Sequence[Plan],
    services: Sequence[str],
    sent: Mapping[str, Iterable[str]],
    heard: Mapping[tuple[str, str], Iterable[str]],
    lane: Priority,
) -> Iterator[Talk]:
    reports, commands = _names(REPORT_KINDS), _names(COMMAND_KINDS)
    outcomes = in_lane(OUTCOMES, lane)
    for service in services:
        if service in sent:
            topic = events_topic(service, lane)
            yield Talk(service=service, topic=topic, sends=True, messages=tuple(sent[service]))
    for (service, sender), events in heard.items():
        topic = events_topic(sender, lane)
        yield Talk(service=service, topic=topic, sends=False, messages=tuple(events))
    for service in services:
        topic = commands_topic(service, lane)
        yield Talk(service=COORDINATOR, topic=topic, sends=True, messages=commands)
        yield Talk(service=service, topic=topic, sends=False, messages=commands)
    if lane is Priority.NORMAL:
        for service in services:
            yield Talk(service=service, topic=RUNS, sends=True, messages=reports)
        yield Talk(service=COORDINATOR, topic=RUNS, sends=False, messages=reports)
    ended = (f"saga.{Kind.OUTCOME.value}",)
    yield Talk(service=COORDINATOR, topic=outcomes, sends=True, messages=ended)
    for starter in dict.fromkeys(plan.starter for plan in plans):
        yield Talk(service=starter, topic=outcomes, sends=False, messages=ended)


def _names(kinds: Iterable[Kind]) -> tuple[str, ...]:
    wanted = frozenset(kinds)
    return tuple(f"saga.{kind.value}" for kind in Kind if kind in wanted)


# --- how it is written ---------------------------------------------------------------------------------------


def _info(plans: Sequence[Plan], service: str) -> Json:
    names = ", ".join(f"{plan.saga} v{plan.version}" for plan in plans)
    alone = plans[0] if len(plans) == 1 else None
    return {
        "title": f"{service}: {names}" if service else f"Sagas: {names}",
        "version": f"{alone.version}.{alone.revision}.0" if alone is not None else "1.0.0",
        "description": (
            "CloudEvents 1.0 over Kafka in binary mode: the value is the JSON body, the attributes are headers. Every "
            "message of a saga has the saga's ID as its key, and may come more than once with the same ce_id."
        ),
        "x-saga-plans": [
            {"saga": plan.saga, "version": plan.version, "revision": plan.revision, "hash": plan.hash} for plan in plans
        ],
    }


def _server(url: str) -> Json:
    scheme, _, rest = url.partition("://")
    host = rest.partition("?")[0].rstrip("/").rpartition("@")[2]
    if scheme not in ("kafka", "kafkas", "kafka+ssl") or not host or "/" in host:
        raise PlanError([f"{scheme}://{host} is no broker; write kafka://host:port"])
    # A document may have one host; the first of a list leads to the others.
    return {"host": host.partition(",")[0], "protocol": "kafka" if scheme == "kafka" else "kafka-secure"}


def _channel(topic: str, messages: Iterable[str]) -> Json:
    return {
        "address": topic,
        "description": _about(topic),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": KAFKA}},
    }


def _about(topic: str) -> str:
    urgent = " of urgent sagas" if topic.endswith(".urgent") else ""
    if topic == RUNS:
        return "What every service reports to the coordinator."
    if topic.startswith(OUTCOMES):
        return f"How sagas have ended, for the services that have started them{urgent}."
    service, _, kind = topic.removesuffix(".urgent").rpartition(".")
    what = f"Events of {service}" if kind == "events" else f"What the coordinator tells {service}"
    return f"{what}{urgent}."


def _operations(talks: Iterable[Talk]) -> Iterator[tuple[str, Json]]:
    for talk in talks:
        action = "send" if talk.sends else "receive"
        channel = f"#/channels/{talk.topic}"
        yield (
            f"{talk.service}.{action}.{talk.topic}",
            {
                "action": action,
                "channel": {"$ref": channel},
                "title": f"{talk.service} {'writes' if talk.sends else 'reads'} {talk.topic}",
                "tags": [{"name": talk.service}],
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in talk.messages],
            },
        )


def _message(name: str, *, event: bool) -> Json:
    kind = Kind.EVENT if event else Kind(name.removeprefix("saga."))
    body: Json = {
        "name": name,
        "title": name,
        "contentType": "application/json",
        "headers": headers_of(kind, name),
        "payload": referred(_component(name)) if event else body_of(kind),
        "correlationId": {"$ref": "#/components/correlationIds/saga"},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": "the saga's ID"}, "bindingVersion": KAFKA},
        },
    }
    return body | {"description": _SEALED} if event else body


def _payloads(events: Mapping[str, Json]) -> dict[str, Json]:
    """Return the payloads' schemas; what pydantic keeps under `$defs` becomes schemas of the document."""
    found: dict[str, Json] = {}
    for event, schema in events.items():
        name = _component(event)
        within = cast("dict[str, Json]", schema.get("$defs", {}))
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        found[name] = cast("Json", _pointed(rest, name))
        found |= {f"{name}.{_safe(inner)}": cast("Json", _pointed(each, name)) for inner, each in within.items()}
    return found


def _component(event: str) -> str:
    return f"event.{event}"


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "_" for c in name)


def _pointed(value: object, name: str) -> object:
    """Return a schema whose references lead to where its definitions stand in the document."""
    if isinstance(value, list):
        return [_pointed(each, name) for each in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    schema = cast("dict[str, object]", value)
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
        return {**schema, "$ref": f"#/components/schemas/{name}.{_safe(reference.removeprefix(_DEFINITIONS))}"}
    return {key: _pointed(each, name) for key, each in schema.items()}
