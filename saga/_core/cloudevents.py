"""Write and read the CloudEvents 1.0 Kafka protocol binding, binary content mode.

Section numbers without a name are those of the Kafka Protocol Binding for CloudEvents 1.0.2.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from saga._core.branches import EMPTY
from saga._core.common_headers import JSON_HEADER, VERSION_HEADER, back_headers, front_headers
from saga._core.envelope import Delivery, Envelope, Headers, Message
from saga._core.frozen import builder
from saga._core.limits import Limits, check_delivery
from saga._core.times import format_time, parse_time
from saga._core.words import Kind, Priority
from saga.errors import Undecodable

UNTIMED = datetime(1970, 1, 1, tzinfo=UTC)
"""The `time` of a foreign event that states none; CloudEvents leaves `time` optional."""
_TRACEPARENT_BYTES = 128

_KINDS = {kind.value: kind for kind in Kind}
_LANES = {lane.value: lane for lane in Priority}
_ATTRIBUTES = (
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_causationid",
    "ce_expirytime",
    "ce_sagakind",
    "ce_sagaid",
    "ce_sagaplan",
    "ce_sagastep",
    "ce_sagabranch",
    "ce_sagatenant",
    "ce_sagalane",
    "content-type",
)
_OWN = ("ce_id", "ce_sagaid", "ce_sagabranch", "ce_sagatenant", "ce_causationid", "ce_time", "ce_expirytime")
_COMMON = tuple(name for name in _ATTRIBUTES if name not in _OWN)
_SOME_TIME = b"1970-01-01T00:00:00Z"
_NOTHING: dict[str, str] = {}
_PLAIN_ATTRIBUTES = ("ce_tenant", "ce_correlationid")
ATTRIBUTE_HEADERS = frozenset((*_ATTRIBUTES, *_PLAIN_ATTRIBUTES))
"""The headers that may occur only once."""
# CloudEvents 1.0.2, "Type System", String: no control characters, no noncharacters. (Surrogates cannot be
# in UTF-8.) PostgreSQL's text refuses U+0000 too, and such a message would block its partition.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(p * 0x10000 + c) for p in range(17) for c in (0xFFFE, 0xFFFF))
    + "]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_envelope = builder(Envelope)
_BRANCH = re.compile(r"([1-9][0-9]{0,8})of([1-9][0-9]{0,8})", re.ASCII)


def source_of(service: str) -> str:
    """Return the CloudEvents `source` of a service: `/saga/<service>`."""
    return f"/saga/{service}"


def is_attribute(text: str) -> bool:
    """Return whether `text` can be the value of an attribute: Unicode without control characters."""
    return text.isprintable() or (_FORBIDDEN.search(text) is None and not _SURROGATE.search(text))


def message(envelope: Envelope, topic: str, key: str) -> Message:
    """Return `envelope` as the message to send to `topic`; `key` decides the partition (section 3.1)."""
    return Message(topic=topic, key=key.encode(), value=envelope.payload, headers=encode_headers(envelope))


def encode_headers(envelope: Envelope) -> Headers:
    """Return the Kafka headers of `envelope`: UTF-8, prefix `ce_` (sections 3.2.1, 3.2.3).

    Attributes that are empty are left out. The correlation ID repeats the saga ID for readers that
    know the CloudEvents correlation extension and not ours.
    """
    source, type_, kind = front_headers(envelope.source, envelope.type, envelope.kind)
    headers = [
        VERSION_HEADER,
        ("ce_id", envelope.id.encode()),
        source,
        type_,
        ("ce_time", format_time(envelope.time).encode()),
        JSON_HEADER,
        kind,
    ]
    if envelope.saga_id:
        saga_id = envelope.saga_id.encode()
        headers.append(("ce_correlationid", saga_id))
        headers.append(("ce_sagaid", saga_id))
    if envelope.causation_id:
        headers.append(("ce_causationid", envelope.causation_id.encode()))
    if envelope.expires_at is not None:
        headers.append(("ce_expirytime", format_time(envelope.expires_at).encode()))
    headers += back_headers(envelope.plan, envelope.step, envelope.branch, envelope.tenant, envelope.lane)
    if envelope.traceparent:
        headers.append(("traceparent", envelope.traceparent.encode()))
    return tuple(headers)


def decode(delivery: Delivery, limits: Limits) -> Envelope:
    """Return the envelope of a delivery; the payload stays bytes.

    Raises Undecodable with the reason, and nothing else, whatever the bytes are. A CloudEvent without
    `sagakind` is a plain event: no saga of ours, whatever its correlation ID says. Attributes we do
    not know are ignored (CloudEvents 1.0.2, "Extension Context Attributes"), and one that is empty is as
    good as absent: a connector that reads columns sends them all.
    """
    check_delivery(delivery, limits)
    value, headers = delivery.value, delivery.headers
    if value is None:
        msg = "the message has no value: a tombstone or an event without data (section 3.2.2) tells nothing"
        raise Undecodable(msg)
    found = dict(headers)
    if len(found) != len(headers):
        _refuse_repeated(headers)
    return _familiar(found, value, limits) or _in_full(found, value, limits)


def _familiar(found: dict[str, bytes], payload: bytes, limits: Limits) -> Envelope | None:
    """Return the envelope of a saga's message like others before it; None means that it has to be read in full."""
    get = found.get
    ident, saga_id, time, expiry = get("ce_id"), get("ce_sagaid"), get("ce_time"), get("ce_expirytime")
    branch, tenant, cause = get("ce_sagabranch", b""), get("ce_sagatenant", b""), get("ce_causationid", b"")
    if not (ident and saga_id and time and expiry):
        return None
    own = b"".join((ident, saga_id, branch, tenant, cause, time, expiry))
    if not (len(own) <= limits.attribute_bytes and own.isascii() and own.decode().isprintable()):
        return None
    like = _like(limits.attribute_bytes, *map(get, _COMMON))
    if like is None:
        return None
    if branch:
        _check_branch(branch.decode(), limits)
    trace = get("traceparent")
    return _envelope(
        id=ident.decode(),
        source=like.source,
        type=like.type,
        kind=like.kind,
        time=parse_time(time.decode(), "ce_time"),
        payload=payload,
        saga_id=saga_id.decode(),
        plan=like.plan,
        step=like.step,
        branch=branch.decode(),
        tenant=tenant.decode(),
        causation_id=cause.decode(),
        expires_at=parse_time(expiry.decode(), "ce_expirytime"),
        traceparent=_traceparent(trace) if trace else "",
        lane=like.lane,
    )


@lru_cache(1024)
def _like(attribute_bytes: int, *common: bytes | None) -> Envelope | None:
    """Return what messages of a saga with these attributes look like, None when they are none or something is wrong."""
    found = {name: value for name, value in zip(_COMMON, common, strict=True) if value is not None}
    if not found.get("ce_sagakind"):
        return None
    found |= {"ce_id": b"-", "ce_sagaid": b"-", "ce_time": _SOME_TIME, "ce_expirytime": _SOME_TIME}
    try:
        return _in_full(found, b"", Limits(attribute_bytes=attribute_bytes))
    except Undecodable:
        return None


def _in_full(found: dict[str, bytes], payload: bytes, limits: Limits) -> Envelope:
    values = _read(found, _ATTRIBUTES, limits)
    _check_frame(values)
    kind, plain = Kind.EVENT, _NOTHING
    if "ce_sagakind" in values and (values["ce_sagakind"] or values.get("ce_sagaid")):
        if values["ce_sagakind"] not in _KINDS:
            msg = f"ce_sagakind is {values['ce_sagakind'][:40]!r}: no kind of message this version knows"
            raise Undecodable(msg)
        kind = _KINDS[values["ce_sagakind"]]
        _check_saga(kind, values, limits)
    else:
        values = {name: value for name, value in values.items() if not name.startswith("ce_saga")}
        plain = _read(found, _PLAIN_ATTRIBUTES, limits)
    get = values.get
    time, expiry = get("ce_time"), get("ce_expirytime")
    return _envelope(
        id=values["ce_id"],
        source=values["ce_source"],
        type=values["ce_type"],
        kind=kind,
        time=parse_time(time, "ce_time") if time else UNTIMED,
        payload=payload,
        saga_id=get("ce_sagaid", ""),
        plan=get("ce_sagaplan", ""),
        step=get("ce_sagastep", ""),
        branch=get("ce_sagabranch", ""),
        tenant=get("ce_sagatenant") or plain.get("ce_tenant", ""),
        causation_id=get("ce_causationid", ""),
        expires_at=parse_time(expiry, "ce_expirytime") if expiry else None,
        traceparent=_traceparent(found.get("traceparent", b"")),
        lane=_LANES.get(get("ce_sagalane", ""), Priority.NORMAL),
        correlation_id=plain.get("ce_correlationid", ""),
    )


def _read(found: dict[str, bytes], names: tuple[str, ...], limits: Limits) -> dict[str, str]:
    name = ""
    values: dict[str, str] = {}
    try:
        for name in names:
            if name in found:
                raw = found[name]
                if len(raw) > limits.attribute_bytes:
                    msg = f"{name} has {len(raw)} bytes, at most {limits.attribute_bytes} are allowed"
                    raise Undecodable(msg)
                values[name] = raw.decode()
    except UnicodeDecodeError:
        msg = f"{name} is not UTF-8"
        raise Undecodable(msg) from None
    if not "".join(values.values()).isprintable():
        # `isprintable` is quick and too strict (it refuses U+00A0): the exact rule has the last word.
        for name, value in values.items():
            if _FORBIDDEN.search(value):
                msg = f"{name} contains a control character or a noncharacter"
                raise Undecodable(msg)
    return values


def _check_frame(values: dict[str, str]) -> None:
    content_type = values.get("content-type", "application/json")
    # `application/json` is what we send; parameters, `+json` suffixes and an absent type are read as JSON.
    if content_type != "application/json":
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type.startswith("application/cloudevents"):
            msg = f"content-type is {media_type[:60]!r}: structured mode is not read, send binary mode"
            raise Undecodable(msg)
        if media_type != "application/json" and not media_type.endswith("+json"):
            msg = f"content-type is {content_type[:60]!r}: only JSON is read"
            raise Undecodable(msg)
    version = values.get("ce_specversion")
    if version != "1.0":
        msg = "ce_specversion is missing" if version is None else f"ce_specversion is {version[:20]!r}"
        raise Undecodable(msg + ": only CloudEvents 1.0 is read")
    if not (values.get("ce_id") and values.get("ce_source") and values.get("ce_type")):
        missing = [name for name in ("ce_id", "ce_source", "ce_type") if not values.get(name)]
        msg = f"{', '.join(missing)} missing or empty: CloudEvents 1.0.2 demands id, source and type"
        raise Undecodable(msg)


def _check_saga(kind: Kind, values: dict[str, str], limits: Limits) -> None:
    # A saga's message without one of these could neither run nor be refused for being late.
    if kind is not Kind.EVENT or values.get("ce_sagaid"):
        for name in ("ce_sagaid", "ce_sagaplan", "ce_time", "ce_expirytime"):
            if not values.get(name):
                msg = f"{name} is missing: every message of a saga carries it"
                raise Undecodable(msg)
    if values.get("ce_sagabranch"):
        _check_branch(values["ce_sagabranch"], limits)


def _check_branch(branch: str, limits: Limits) -> None:
    if branch != EMPTY:
        numbers = _BRANCH.fullmatch(branch)
        if numbers is None or int(numbers[1]) > int(numbers[2]):
            msg = f"ce_sagabranch is {branch[:40]!r}: write element 2 of a fan-out of 5 as '2of5'"
            raise Undecodable(msg)
        if int(numbers[2]) > limits.branches:
            msg = f"ce_sagabranch is {branch!r}: at most {limits.branches} branches are allowed"
            raise Undecodable(msg)


def _refuse_repeated(headers: Headers) -> None:
    # Two values for one attribute would let two readers see two different events. Other headers may repeat.
    seen: set[str] = set()
    for name, _ in headers:
        if name in seen and name in ATTRIBUTE_HEADERS:
            msg = f"{name} occurs twice"
            raise Undecodable(msg)
        seen.add(name)


def _traceparent(value: bytes) -> str:
    # W3C Trace Context, section 4.3: what cannot be parsed is ignored, it does not cost the message.
    return (
        value.decode() if len(value) <= _TRACEPARENT_BYTES and value.isascii() and value.decode().isprintable() else ""
    )
