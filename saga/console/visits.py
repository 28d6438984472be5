"""Hold what is known of one request once it has been let in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qsl

from starlette.requests import Request

from saga.console.people import User

KEY = "saga.console"
MAX_FIELDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Be a request that was let in: who asks, the token for the forms of the answer, and what a form sent."""

    user: User
    token: str
    form: Mapping[str, str] = field(default_factory=dict[str, str])


def visit_of(request: Request) -> Visit:
    """Return what the guard found out about a request."""
    return cast("Visit", request.scope[KEY])


def form_of(body: bytes) -> dict[str, str]:
    """Return the fields of a form, the last of each name; raises ValueError for what is none."""
    pairs = parse_qsl(
        body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=MAX_FIELDS, errors="strict"
    )
    if "\x00" in "".join(f"{name}{value}" for name, value in pairs):
        raise ValueError("a zero byte, which no database can hold")
    return dict(pairs)
