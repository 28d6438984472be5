"""Take values of fields marked `PII` or `Secret` out of a text: what an exception says may quote the event it met."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import cast

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from saga._core.events import Hidden

LEAST_CHARS = 4
"""A shorter value is not looked for: a text would be full of it by chance."""
DEPTH = 12
MOST_VALUES = 2_000


def hidden_values(given: Iterable[object], mark: Hidden | None = None) -> dict[str, str]:
    """Return the marked values inside of events and whatever holds them, each with what is printed in its place.

    With a `mark` every value has it. The longest come first. Looks a dozen levels deep and at 2,000 values at most.
    """
    found: dict[str, str] = {}
    for value, own in _marked(list(given), mark, 0):
        found |= {text: own for text in _texts(value) if len(text) >= LEAST_CHARS}
        if len(found) >= MOST_VALUES:
            break
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def redacted(text: str, hidden: Mapping[str, str]) -> str:
    """Return a text with its marked values replaced."""
    for value, mark in hidden.items():
        if value in text:
            text = text.replace(value, mark)
    return text


def _marked(value: object, mark: Hidden | None, depth: int) -> Iterator[tuple[object, str]]:
    """Yield the leaves below whatever is marked, with what is printed in their place."""
    inside = _inside(value) if depth < DEPTH else ()
    if inside is not None:
        for inner, own in inside:
            yield from _marked(inner, own or mark, depth + 1)
    elif mark is not None and value is not None:
        yield value, repr(mark)


def _inside(value: object) -> Iterable[tuple[object, Hidden | None]] | None:
    """Return what a value is made of, each with a mark of its own; None for a leaf."""
    if isinstance(value, BaseModel):
        return [(getattr(value, name, None), _mark_of(field)) for name, field in type(value).model_fields.items()]
    if is_dataclass(value) and not isinstance(value, type):
        return [(getattr(value, each.name, None), None) for each in fields(value)]
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return [(one, None) for pair in pairs.items() for one in pair]
    if isinstance(value, list | tuple | set | frozenset):
        return [(element, None) for element in cast("Iterable[object]", value)]
    return None


def _mark_of(field: FieldInfo) -> Hidden | None:
    return next((each for each in field.metadata if isinstance(each, Hidden)), None)


def _texts(value: object) -> tuple[str, ...]:
    """Return how a value may stand in a text."""
    if isinstance(value, SecretStr):
        return (value.get_secret_value(),)
    if isinstance(value, SecretBytes):
        value = value.get_secret_value()
    if isinstance(value, bytes):
        return (value.decode("utf-8", "ignore"), repr(value)[2:-1], value.hex())
    if isinstance(value, bool):
        return ()
    text = str(value)
    # As it is, as `repr` writes it, and as it stands in JSON.
    return (text, repr(text)[1:-1]) if isinstance(value, str) else (text, repr(value))
