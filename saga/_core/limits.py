"""Bound what is read and sent, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from saga._core.envelope import Delivery, Headers, Message
from saga.errors import TooLarge, Undecodable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Hold the limits of one message.

    `value_bytes` is what is read, `payload_bytes` what is written: brokers count the key, the headers and what Kafka
    writes around them against the same limit.

    `headers` counts them, `header_bytes` sums names and values. `attribute_bytes` bounds one CloudEvents
    attribute, so that every ID fits into a database index. `depth` counts nested JSON arrays and
    objects. `branches` is the widest fan-out. `refusal_bytes` bounds a refusal's payload,
    `sealed_refusal_bytes` what stands for it where it is sealed.
    """

    value_bytes: int = 1024 * 1024
    headers: int = 64
    header_bytes: int = 16 * 1024
    attribute_bytes: int = 512
    depth: int = 64
    branches: int = 1024
    refusal_bytes: int = 1024
    sealed_refusal_bytes: int = 2048
    payload_bytes: int = 1024 * 1024 - 16 * 1024 - 2048


DEFAULT_LIMITS = Limits()

_BRACKETS = b"[{]}"
_TO_ROUND = bytes.maketrans(_BRACKETS, b"(())")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _BRACKETS)


def check_delivery(delivery: Delivery, limits: Limits) -> None:
    """Raise Undecodable when a received message is over a limit; nothing of it has been decoded by then."""
    problem = _problem(delivery.value, delivery.headers, limits)
    if problem:
        raise Undecodable(problem)


def check_outgoing(message: Message, limits: Limits) -> None:
    """Raise TooLarge when whoever reads `message` would refuse it; call it before storing anything."""
    size = len(message.value or b"")
    if size > limits.payload_bytes:
        problem = f"value has {size} bytes, at most {limits.payload_bytes} are allowed"
    else:
        problem = _problem(message.value, message.headers, limits)
    if not problem:
        problem = next(
            (
                f"attribute {name} has {len(value)} bytes, at most {limits.attribute_bytes} are allowed"
                for name, value in message.headers
                if len(value) > limits.attribute_bytes and name.startswith("ce_")
            ),
            "",
        )
    if problem:
        msg = f"message to {message.topic}: {problem}"
        raise TooLarge(msg)


def check_depth(value: bytes, depth: int) -> None:
    """Raise Undecodable when `value`, read as JSON, nests deeper than `depth` or leaves a bracket open.

    Linear in the size of `value` times `depth`, all of it in C; brackets in strings do not count.
    """
    if not _is_shallow(value, depth):
        raise Undecodable(_too_deep(depth))


def _problem(value: bytes | None, headers: Headers, limits: Limits) -> str:
    if len(headers) > limits.headers:
        return f"{len(headers)} headers, at most {limits.headers} are allowed"
    size = 0
    for name, content in headers:
        size += len(name) + len(content)
    if size > limits.header_bytes:
        return f"headers have {size} bytes, at most {limits.header_bytes} are allowed"
    if value is None:
        return ""
    if len(value) > limits.value_bytes:
        return f"value has {len(value)} bytes, at most {limits.value_bytes} are allowed"
    return "" if _is_shallow(value, limits.depth) else _too_deep(limits.depth)


def _too_deep(depth: int) -> str:
    return f"value nests deeper than {depth} levels or leaves a bracket open"


def _is_shallow(value: bytes, depth: int) -> bool:
    # Nearly every message ends here: fewer brackets than levels allowed.
    if value.count(b"{") + value.count(b"[") <= depth:
        return True
    # With escaped backslashes and quotes gone, every second piece between quotes is outside of strings.
    outside = b"".join(value.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    nesting = outside.translate(_TO_ROUND, _NOT_BRACKETS)
    for _ in range(depth):
        # One pass removes all leaves, so the height of the tree falls by exactly one.
        flatter = nesting.replace(b"()", b"")
        if len(flatter) == len(nesting):
            break
        nesting = flatter
    return not nesting
