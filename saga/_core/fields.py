"""Read the fields of JSON that somebody else has written: every complaint is an Undecodable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import orjson

from saga._core.limits import DEFAULT_LIMITS
from saga.errors import Undecodable

Json = dict[str, Any]

Item = TypeVar("Item")


def load_object(payload: bytes) -> Json:
    """Return the JSON object in `payload`."""
    try:
        value: object = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        msg = f"the body is not JSON: {error}"
        raise Undecodable(msg) from None
    return as_object(value, "the body")


def as_object(value: object, what: str) -> Json:
    """Return `value` if it is a JSON object; `what` names it in the error."""
    if type(value) is not dict:
        msg = f"{what} is not a JSON object"
        raise Undecodable(msg)
    return cast("Json", value)


def each(body: Json, name: str, read: Callable[[object], Item]) -> tuple[Item, ...]:
    """Return the elements of the JSON array `name`, each through `read`."""
    values: object = body.get(name)
    if type(values) is not list:
        msg = f"{name} is not a JSON array"
        raise Undecodable(msg)
    return tuple([read(value) for value in cast("list[object]", values)])


def name_in(body: Json, name: str) -> str:
    """Return the name in field `name`."""
    return checked_name(body.get(name), name)


def checked_name(value: object, what: str = "a name") -> str:
    """Return `value` if it can be the key of a row: printable, not empty, no longer than an attribute."""
    if type(value) is not str or not value.isprintable() or not 0 < len(value) <= DEFAULT_LIMITS.attribute_bytes:
        msg = f"{what} is {str(value)[:40]!r}: write a name of printable characters"
        raise Undecodable(msg)
    return value


def word_in(body: Json, name: str, words: dict[str, Item]) -> Item:
    """Return what the word in field `name` stands for."""
    value: object = body.get(name)
    if type(value) is not str or value not in words:
        msg = f"{name} is {str(value)[:40]!r}: write one of {', '.join(words)}"
        raise Undecodable(msg)
    return words[value]


def number_in(body: Json, name: str, *, most: int = 2**53 - 1) -> int:
    """Return the whole number in field `name`, from 0 to `most`."""
    value: object = body.get(name)
    if type(value) is not int or not 0 <= value <= most:
        msg = f"{name} is {str(value)[:40]!r}: write a whole number from 0 to {most}"
        raise Undecodable(msg)
    return value


def text_in(body: Json, name: str, limit: int) -> str:
    """Return the free text in field `name`, cleaned; empty when there is none."""
    value: object = body.get(name, "")
    if type(value) is not str:
        msg = f"{name} is not a string"
        raise Undecodable(msg)
    return clean_text(value, limit)


def clean_text(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text` without what JSON or PostgreSQL cannot hold."""
    text = text[:limit]
    if text.isprintable():
        return text
    return text.encode("utf-8", "replace").decode().replace("\x00", "")
