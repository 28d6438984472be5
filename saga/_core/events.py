"""Define what users derive their events and refusals from."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from saga.errors import DeclarationError

NAME_CHARS = 100
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*\Z")


def check_name(name: str, what: str, *, example: str) -> None:
    """Raise DeclarationError unless `name` is lower case letters, digits and single `.`, `_`, `-` between them."""
    if len(name) > NAME_CHARS or not _NAME.match(name):
        msg = (
            f"{what} {name!r} is not a usable name: use lower-case letters and digits joined by "
            f"'.', '_' or '-', such as {example!r}"
        )
        raise DeclarationError(msg)


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    wire_name: ClassVar[str] = ""
    wire_version: ClassVar[int] = 0
    wire_type: ClassVar[str] = ""

    def __init_subclass__(cls, *, name: str = "", version: int = 0, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:
            return
        base = "Refusal" if issubclass(cls, Refusal) else "Event"
        if not name or version < 1:
            msg = (
                f"{cls.__qualname__} has no wire name: write `class {cls.__qualname__}({base}, "
                f'name="noun.verb", version=1)`; the name and version stand on the wire, the class name does not'
            )
            raise DeclarationError(msg)
        check_name(name, f"{cls.__qualname__}: name", example="order.placed")
        cls.wire_name = name
        cls.wire_version = version
        cls.wire_type = f"{name}.v{version}"

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str = "", version: int = 0, **kwargs: Any) -> None:
        """Swallow the class keywords that `__init_subclass__` has read."""
        super().__pydantic_init_subclass__(**kwargs)


class Event(_Payload):
    """Be a fact, in the past tense, with a name and version on the wire.

    Immutable; unknown fields of a newer sender are ignored. The wire type is `<name>.v<version>`
    (CloudEvents `type`); renaming the class changes nothing outside.
    """


class Refusal(_Payload):
    """Be a business "no": returned by a step, never raised, never retried; it undoes the saga.

    Its payload travels to the coordinator and to `on_end`; at most 1 KiB.
    """
