"""Copy frozen values with some fields changed, where it happens for every message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

Value = TypeVar("Value")


def replaced(value: Value, **changes: Any) -> Value:
    """Return a copy of a frozen dataclass with slots, some fields changed: `dataclasses.replace`, a third of its time.

    The fields are copied and not given to `__init__`, so it is for values that have nothing to check there.
    """
    kind = type(value)
    values_of, setters, setter_of = _fields(kind)  # type: ignore[arg-type]  # a class can be hashed
    copy: Value = object.__new__(kind)
    for put, old in zip(setters, values_of(value), strict=True):
        put(copy, old)
    for name, new in changes.items():
        setter_of[name](copy, new)
    return copy


_Setter = Callable[[Any, Any], None]


@cache
def _fields(kind: type[Any]) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[_Setter, ...], Mapping[str, _Setter]]:
    names: tuple[str, ...] = kind.__slots__
    setter_of = {name: getattr(kind, name).__set__ for name in names}
    return attrgetter(*names), tuple(setter_of.values()), setter_of
