"""Compare what events carry: the JSON schema of what is sent, the fields a reader cannot do without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import orjson
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from saga._core.events import Event
from saga.errors import DeclarationError

_WORDING = frozenset({"title", "description"})
_NAMED = frozenset({"properties", "$defs"})
_VALUES = frozenset({"default", "const", "enum", "examples"})
_ALL = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_DEPTH = 4
"""How far references and unions are followed before a type counts as not simply said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSchema:
    """Be the JSON schema of an event as it is sent, as JSON text with sorted keys and no wording."""

    type: str
    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Be one field a reader cannot do without, and the JSON types it takes."""

    name: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNeeds:
    """Be the fields of an event that one service cannot do without."""

    type: str
    fields: tuple[Field, ...]


class _AsSent(GenerateJsonSchema):
    """Know that what has a default is sent all the same; pydantic calls it optional."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001 -- pydantic's signature
        """Return whether a field is in every message; what a reader may leave out depends on its default."""
        if self.mode == "serialization" and field["type"] == "model-field":
            return not (field.get("serialization_exclude") or field.get("serialization_exclude_if"))
        return super().field_is_required(field, total)


def schema_of(event: type[Event]) -> EventSchema:
    """Return the schema of what a sender of `event` sends; raises DeclarationError where there is none."""
    bare = _without_wording(_json_schema(event, "serialization"))
    return EventSchema(type=event.wire_type, schema=schema_text(bare))


def needs_of(event: type[Event]) -> EventNeeds:
    """Return the fields a reader of `event` cannot do without; raises DeclarationError likewise."""
    return EventNeeds(type=event.wire_type, fields=_required(_json_schema(event, "validation")))


def schema_text(schema: Any) -> str:
    """Return a schema as text that is equal for equal schemas."""
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode()


def unmet(needs: EventNeeds, sent: EventSchema) -> list[str]:
    """Return what is wrong with each needed field, as the second half of a sentence."""
    known = {field.name: field for field in _required(orjson.loads(sent.schema))}
    found: list[str] = []
    for field in needs.fields:
        offered = known.get(field.name)
        if offered is None:
            found.append(f"needs its field {field.name!r}, which is not always sent")
        elif refused := _refused(offered.types, field.types):
            found.append(
                f"takes its field {field.name!r} as {' or '.join(field.types)}, but it is "
                f"sent as {' or '.join(refused)}"
            )
    return found


def _refused(offered: tuple[str, ...], taken: tuple[str, ...]) -> list[str]:
    if _ALL.issubset(offered):
        # The sender does not say; only what is known to be wrong is refused.
        return []
    accepted = {*taken, "integer"} if "number" in taken else set(taken)
    return [kind for kind in offered if kind not in accepted]


def _json_schema(event: type[Event], mode: Any) -> dict[str, Any]:
    try:
        return event.model_json_schema(mode=mode, schema_generator=_AsSent)
    except PydanticUserError as error:
        msg = (
            f"{event.__qualname__} ({event.wire_type}) has no JSON schema: {error.message}; "
            f"use fields that JSON can carry"
        )
        raise DeclarationError(msg) from error


def _required(schema: dict[str, Any]) -> tuple[Field, ...]:
    # A class that refers to itself stands under $defs with only a reference at the top.
    top = _followed(schema, schema)
    properties = cast("dict[str, Any]", top.get("properties", {}))
    return tuple(
        Field(name=name, types=tuple(sorted(_types(properties.get(name, {}), schema, 0))))
        for name in sorted(cast("list[str]", top.get("required", [])))
    )


def _types(schema: Any, root: dict[str, Any], depth: int) -> frozenset[str]:
    """Return the JSON types a schema allows; all of them where that is not simply said."""
    if not isinstance(schema, dict) or depth > _DEPTH:
        return _ALL
    schema = _followed(cast("dict[str, Any]", schema), root)
    if "type" in schema:
        kinds = schema["type"]
        return frozenset(cast("list[str]", kinds) if isinstance(kinds, list) else (kinds,))
    members: list[Any] = schema.get("anyOf") or schema.get("oneOf") or []
    found: frozenset[str] = frozenset()
    for member in members:
        found |= _types(member, root, depth + 1)
    return found or _ALL


def _followed(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    definitions = cast("dict[str, dict[str, Any]]", root.get("$defs", {}))
    for _ in range(_DEPTH):
        if "$ref" not in schema:
            break
        schema = definitions.get(str(schema["$ref"]).removeprefix("#/$defs/"), {})
    return schema


def _without_wording(schema: object) -> Any:
    """Drop titles and descriptions: a renamed class or a better docstring is not another schema."""
    if isinstance(schema, list):
        return list(map(_without_wording, cast("list[object]", schema)))
    if not isinstance(schema, dict):
        return schema
    bare: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", schema).items():
        if key in _WORDING:
            continue
        if key == "required":
            bare[key] = sorted(value)
        elif key in _NAMED:
            bare[key] = {name: _without_wording(item) for name, item in value.items()}
        else:
            bare[key] = value if key in _VALUES else _without_wording(value)
    return bare
