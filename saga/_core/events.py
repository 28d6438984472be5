"""Define what users derive their events and refusals from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict

from saga.errors import DeclarationError

NAME_CHARS = 100
MARK_KEY = "x-saga-hidden"
"""The key under which a field's JSON schema has its mark."""
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*\Z")
_subjects: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Hidden:
    """Mark a field of an event whose value is never printed: `card: Annotated[str, Secret]`."""

    word: str

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        """Say so in the JSON schema: whoever has only that must not print the value either."""
        return {**handler(core), MARK_KEY: self.word}

    def __repr__(self) -> str:
        """Return what stands in the place of a value."""
        return f"<{self.word}>"


PII: Final = Hidden("PII")
"""Mark a field that says something about a person."""
Secret: Final = Hidden("secret")
"""Mark a field that must be known to nobody else."""


def subject_field(wire_type: str) -> str:
    """Return the JSON key under which payloads of a type say whom they are about, "" when they say nothing."""
    return _subjects.get(wire_type, "")


def check_name(name: str, what: str, *, example: str) -> None:
    """Raise DeclarationError unless `name` is lower case letters, digits and single `.`, `_`, `-` between them."""
    if len(name) > NAME_CHARS or not _NAME.match(name):
        msg = (
            f"{what} {name!r} is not a usable name: use lower-case letters and digits joined by "
            f"'.', '_' or '-', such as {example!r}"
        )
        raise DeclarationError(msg)


class _Payload(BaseModel):
    # What does not fit is named by its field: an error ends up in rows, logs and reports.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    wire_name: ClassVar[str] = ""
    wire_version: ClassVar[int] = 0
    wire_type: ClassVar[str] = ""

    def __init_subclass__(cls, *, name: str = "", version: int = 0, subject: str = "", **kwargs: Any) -> None:
        del subject  # read once the fields are known
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
    def __pydantic_init_subclass__(cls, *, name: str = "", version: int = 0, subject: str = "", **kwargs: Any) -> None:
        """Remember the field that says whom a payload is about; raises DeclarationError when there is no such field."""
        super().__pydantic_init_subclass__(**kwargs)
        if not subject:
            return
        field = cls.model_fields.get(subject)
        if field is None:
            msg = f"{cls.__qualname__}: subject={subject!r} is none of its fields: {', '.join(cls.model_fields)}"
            raise DeclarationError(msg)
        _subjects[cls.wire_type] = field.serialization_alias or field.alias or subject

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Yield what is printed of it: no value of a field marked `PII` or `Secret`."""
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            marks = fields[name].metadata if name in fields else ()
            yield name, next((mark for mark in marks if isinstance(mark, Hidden)), value)


class Event(_Payload):
    """Be a fact, in the past tense, with a name and version on the wire.

    Immutable; unknown fields of a newer sender are ignored. The wire type is `<name>.v<version>`
    (CloudEvents `type`); renaming the class changes nothing outside. `subject="customer_id"` names the field that says
    whom it is about: where payloads are sealed, that person has a key of their own.
    """


class Refusal(_Payload):
    """Be a business "no": returned by a step, never raised, never retried; it undoes the saga.

    Its payload travels to the coordinator and to `on_end`; at most 1 KiB.
    """
