"""Make up a refusal of a class, for a step that is made to refuse."""

from __future__ import annotations

import typing
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from saga._core.function import options_of
from saga.testing.virtual import EPOCH

Model = TypeVar("Model", bound=BaseModel)

_VALUES: dict[Any, Any] = {
    str: "made up",
    int: 1,
    float: 1.0,
    bool: False,
    bytes: b"",
    Decimal: Decimal(1),
    UUID: UUID(int=1),
    datetime: EPOCH,
    date: EPOCH.date(),
    timedelta: timedelta(seconds=1),
    NoneType: None,
    Any: None,
}

_EMPTY: dict[Any, Any] = {list: [], dict: {}, set: set(), frozenset: frozenset(), tuple: ()}


def example_of(cls: type[Model]) -> Model | None:
    """Return an instance with made-up values for what has no default, None where none can be made up."""
    try:
        return cls.model_validate(
            {
                field.alias or name: _value(field.annotation)
                for name, field in cls.model_fields.items()
                if field.is_required()
            }
        )
    except (ValidationError, LookupError):
        return None


def _value(annotation: Any) -> Any:
    """Return a value for an annotation; raises LookupError where none comes to mind."""
    options = options_of(annotation)
    if NoneType in options:
        return None
    wanted = options[0]
    origin = typing.get_origin(wanted)
    if origin is Literal:
        return typing.get_args(wanted)[0]
    if origin in _EMPTY:
        return _EMPTY[origin]
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return next(iter(wanted))
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return example_of(wanted)
    return _VALUES[wanted]
