"""Hold JSON values against the few words of JSON Schema that our documents use; an unknown word fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

_IGNORED = {"description", "default", "title", "contentMediaType", "contentEncoding"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
}


def _is_time(value: str) -> bool:
    return datetime.fromisoformat(value).tzinfo is not None


_SIMPLE: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, told: isinstance(value, _TYPES[told]) and not isinstance(value, bool),
    "const": lambda value, told: value == told,
    "enum": lambda value, told: value in told,
    "minLength": lambda value, told: len(value) >= told,
    "maxLength": lambda value, told: len(value) <= told,
    "minimum": lambda value, told: value >= told,
    "maximum": lambda value, told: value <= told,
    "pattern": lambda value, told: re.search(told, value) is not None,
    "format": lambda value, told: told == "date-time" and _is_time(value),
}


def wrong(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> Iterator[str]:
    """Yield what does not fit; `root` is the document that references lead into."""
    for word, told in schema.items():
        if word in _SIMPLE:
            if not _SIMPLE[word](value, told):
                yield f"{at}: {value!r} is not of {word} {told!r}"
                return
        elif word not in _IGNORED:
            yield from _INNER[word](value, told, root, at)


def _reference(value: Any, told: str, root: dict[str, Any], at: str) -> Iterator[str]:
    found: Any = root
    for part in told.removeprefix("#/").split("/"):
        found = found[part]
    yield from wrong(value, found, root, at)


def _all_of(value: Any, told: list[dict[str, Any]], root: dict[str, Any], at: str) -> Iterator[str]:
    for each in told:
        yield from wrong(value, each, root, at)


def _required(value: Any, told: list[str], root: dict[str, Any], at: str) -> Iterator[str]:
    yield from (f"{at}: {name} is missing" for name in told if name not in value)


def _properties(value: Any, told: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for name, each in told.items():
        if name in value:
            yield from wrong(value[name], each, root, f"{at}/{name}")


def _items(value: Any, told: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for number, item in enumerate(value):
        yield from wrong(item, told, root, f"{at}/{number}")


_INNER: dict[str, Callable[[Any, Any, dict[str, Any], str], Iterator[str]]] = {
    "$ref": _reference,
    "allOf": _all_of,
    "required": _required,
    "properties": _properties,
    "items": _items,
}
