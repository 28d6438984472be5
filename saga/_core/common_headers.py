"""Write what the headers of many messages have in common once: there are few services, plans, steps and tenants."""

from __future__ import annotations

from functools import lru_cache

from saga._core.envelope import Headers
from saga._core.words import Priority

CONTENT_TYPE = b"application/json"
VERSION_HEADER, JSON_HEADER = ("ce_specversion", b"1.0"), ("content-type", CONTENT_TYPE)
_REMEMBERED = 4096


@lru_cache(_REMEMBERED)
def front_headers(source: str, type_: str, kind: str) -> Headers:
    """Return the headers for source, type and kind."""
    return (("ce_source", source.encode()), ("ce_type", type_.encode()), ("ce_sagakind", kind.encode()))


@lru_cache(_REMEMBERED)
def back_headers(plan: str, step: str, branch: str, tenant: str, lane: str) -> Headers:
    """Return the headers for what is known of a saga besides its ID; none for what is empty, or the normal lane."""
    lane = "" if lane == Priority.NORMAL else lane
    values = {"plan": plan, "step": step, "branch": branch, "tenant": tenant, "lane": lane}
    return tuple((f"ce_saga{name}", value.encode()) for name, value in values.items() if value)
