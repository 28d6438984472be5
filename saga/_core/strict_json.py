"""Read JSON that people and other repositories hand in: exact keys, exact types, or a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn, TypeVar, cast

import orjson

from saga.errors import PlanError

Word = TypeVar("Word", bound=StrEnum)

_KINDS: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def refuse(sentence: str) -> NoReturn:
    """Raise PlanError with one sentence."""
    raise PlanError([sentence])


def load(body: bytes, what: str) -> Any:
    """Return the value of a JSON document; raises PlanError naming `what`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        refuse(f"{what} is not JSON ({error}); write it again with the `saga` command, do not edit it by hand")


def record(
    value: object, keys: Mapping[str, type], where: str, optional: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Return an object that has exactly these keys, each of exactly this type; `optional` ones have a default."""
    if optional:
        value = {**optional, **mapping(value, where)}
        keys = {**keys, **{key: type(default) for key, default in optional.items()}}
    found = mapping(value, where)
    if missing := sorted(keys.keys() - found.keys()):
        refuse(f"{where}: {', '.join(missing)} missing; write the file again with the `saga` command")
    if unknown := sorted(found.keys() - keys.keys()):
        refuse(f"{where}: {', '.join(unknown)} not known to this version of saga; update saga, or remove it")
    for key, kind in keys.items():
        if type(found[key]) is not kind:
            refuse(f"{where}: {key} is {found[key]!r}, which is not {_KINDS[kind]}")
    return found


def mapping(value: object, where: str) -> dict[str, Any]:
    """Return an object with any keys."""
    if type(value) is not dict:
        refuse(f"{where} is {value!r}, which is not an object")
    return cast("dict[str, Any]", value)


def texts(value: object, where: str) -> tuple[str, ...]:
    """Return a list of different strings."""
    if type(value) is not list or not all(type(item) is str for item in cast("list[object]", value)):
        refuse(f"{where} is {value!r}, which is not a list of strings")
    found = tuple(cast("list[str]", value))
    if len(set(found)) != len(found):
        refuse(f"{where} is {value!r}, which names something twice")
    return found


def word(value: object, words: type[Word], where: str) -> Word:
    """Return the member of an enumeration that `value` spells."""
    for member in words:
        if value == member.value:
            return member
    refuse(f"{where} is {value!r}; it must be one of {', '.join(member.value for member in words)}")


def counted(value: int, where: str) -> int:
    """Return a number from 0."""
    if value < 0:
        refuse(f"{where} is {value}; it must not be negative")
    return value


def positive(value: int, where: str) -> int:
    """Return a number from 1."""
    if value < 1:
        refuse(f"{where} is {value}; it must be at least 1")
    return value
