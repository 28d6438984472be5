"""Read run records that differ from others before them in nothing but their time: what nearly all of them do."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from saga._core.bodies import RunFact
from saga._core.facts import fact_from_json
from saga._core.fields import load_object
from saga._core.frozen import changer
from saga._core.times import parse_time
from saga.errors import Undecodable

_at = changer(RunFact, "at")
_REMEMBERED: Final = 4096
_LARGEST: Final = 1024
"""Larger ones are few, and would take memory."""
_AT: Final = b'"at":"'
_SOME_TIME: Final = "1970-01-01T00:00:00.000000Z"


def familiar_fact(payload: bytes) -> RunFact | None:
    """Return the fact in a run record's body, as `decode_report` reads it; None: it has to be read in full."""
    found = payload.find(_AT)
    if found < 0 or len(payload) > _LARGEST:
        return None
    begin = found + len(_AT)
    end = begin + len(_SOME_TIME)
    like = like_but_for_its_time(payload[:begin], payload[end:])
    if like is None:
        return None
    try:
        return _at(like, at=parse_time(payload[begin:end].decode("latin-1"), "at"))
    except Undecodable:
        return None


@lru_cache(_REMEMBERED)
def like_but_for_its_time(before: bytes, after: bytes) -> RunFact | None:
    """Return the fact of a body of which the time has been cut out; None where that is not what was cut out."""
    some = _SOME_TIME.encode()
    if not after.startswith(b'"') or b"\\" in before + after or some in before or some in after:
        return None
    try:
        body = load_object(before + some + after)
        return fact_from_json(body) if body.get("at") == _SOME_TIME else None
    except Undecodable:
        return None
