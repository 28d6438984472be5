"""Build and change frozen values at the price of open ones: what every message costs several times over.

A frozen dataclass stores each field through `object.__setattr__`. Here the fields are stored in an open twin with
the same slots, which then becomes the frozen class: the value is the same, a quarter of the time is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, TypeVar

Value = TypeVar("Value")


def builder(kind: type[Value]) -> type[Value]:
    """Return a function that is called like `kind`, a frozen dataclass with slots, and makes the same value.

    It is no class, though a type checker may take it for one. Raises TypeError for a class with a
    `__post_init__`, with bases, or with fields that are not plain.
    """
    if not _is_plain(kind) or any(field.default_factory is not MISSING for field in _fields(kind)):
        raise TypeError(f"{kind.__qualname__} is not a frozen dataclass with slots and plain fields")
    found: Any = _compiled(kind, kind.__name__, "*, {parameters}", "{name}")
    return found  # type: ignore[no-any-return]


if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(old: Value, /, **changes: Any) -> Value:
        """Return a copy of a frozen dataclass with some fields changed, as `dataclasses.replace` does."""
        kind = type(old)
        copy = _copiers.get(kind)
        if copy is None:
            copy = _copiers[kind] = _copier(kind)
        return copy(old, changes)


_copiers: dict[type, Callable[[Any, dict[str, Any]], Any]] = {}


def _copier(kind: type) -> Callable[[Any, dict[str, Any]], Any]:
    if not _is_plain(kind):
        return lambda old, changes: dataclasses.replace(old, **changes)
    last = " for name in changes: setattr(self, name, changes[name])\n"
    made: Callable[[Any, dict[str, Any]], Any] = _compiled(kind, "replace", "old, changes", "old.{name}", last=last)
    return made


def changer(kind: type[Value], *names: str) -> Callable[..., Value]:
    """Return what copies a `kind` with these fields changed, all of them, at a third of the price of `replace`.

    It is called with the value and the fields by name. Raises TypeError as `builder` does, and for a field that there
    is not.
    """
    if not _is_plain(kind) or not {field.name for field in _fields(kind)}.issuperset(names):
        raise TypeError(f"{kind.__qualname__} is not a frozen dataclass with slots and plain fields {', '.join(names)}")
    made: Callable[..., Value] = _compiled(kind, "change", f"old, *, {', '.join(names)}", "old.{name}", names)
    return made


def _is_plain(kind: Any) -> bool:
    """Return whether making a value is nothing but storing each field in its slot."""
    fields = _fields(kind)
    if not fields or kind.__mro__ != (kind, object) or hasattr(kind, "__post_init__"):
        return False
    slots: object = kind.__dict__.get("__slots__")
    return slots == tuple(field.name for field in fields) and all(field.init for field in fields)


def _fields(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind) if hasattr(kind, "__dataclass_fields__") else ()


def _compiled(kind: Any, name: str, signature: str, source: str, given: tuple[str, ...] = (), last: str = "") -> Any:
    fields = _fields(kind)
    twin = type(f"Open{kind.__name__}", (), {"__slots__": kind.__slots__})
    names = {f"default_{field.name}": field.default for field in fields if field.default is not MISSING}
    parameters = [f"{f.name}=default_{f.name}" if f"default_{f.name}" in names else f.name for f in fields]
    # The parts are names of fields and nothing else; dataclasses makes its methods in the same way.
    code = [f"def {name}({signature.format(parameters=', '.join(parameters))}):\n self = new(open_)\n"]
    sources = {field.name: source.format(name=field.name) for field in fields} | {name: name for name in given}
    code += [f" self.{name} = {found}\n" for name, found in sources.items()]
    code += [last, " self.__class__ = frozen\n return self\n"]
    space: dict[str, Any] = {**names, "new": object.__new__, "open_": twin, "frozen": kind}
    exec("".join(code), space)  # noqa: S102 - see above
    return space[name]
