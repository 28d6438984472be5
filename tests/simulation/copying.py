"""Copy frozen rows faster than `dataclasses.replace`, which is a quarter of what a schedule costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

Row = TypeVar("Row")
Copy = Callable[[Any], Any]
Setters = dict[str, Callable[[Any, Any], None]]

_KNOWN: dict[type, tuple[Copy, Setters]] = {}


def replace(row: Row, /, **changes: Any) -> Row:
    """Return a copy of a frozen, slotted dataclass instance with some fields changed."""
    found = _KNOWN.get(type(row))
    if found is None:
        found = _KNOWN[type(row)] = _made(type(row))
    copy, setters = found
    made: Row = copy(row)
    for name, value in changes.items():
        setters[name](made, value)
    return made


def _made(kind: type) -> tuple[Copy, Setters]:
    assert not hasattr(kind, "__post_init__"), f"{kind} checks itself: copy it with dataclasses.replace"
    names = [field.name for field in fields(kind)]
    setters: Setters = {name: getattr(kind, name).__set__ for name in names}
    lines = ["def copy(row):", "    made = new(kind)"]
    lines += [f"    set_{name}(made, row.{name})" for name in names]
    lines.append("    return made")
    space: dict[str, Any] = {f"set_{name}": setter for name, setter in setters.items()}
    space |= {"new": object.__new__, "kind": kind}
    exec("\n".join(lines), space)
    return space["copy"], setters
