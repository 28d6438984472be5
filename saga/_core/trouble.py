"""Say in a step and a sentence what has stopped a saga, or why it is undone: what people look for in a list."""

from __future__ import annotations

import re

from saga._core.bodies import RefusalData
from saga._core.words import Cause

_STEP = re.compile(r"([\w-]+\.[\w-]+)(?:/\w+)?(?=:| was not done|$)")

Trouble = tuple[str, str]
"""A step, "" where none is to be named, and a sentence that begins with the cause."""
NO_TROUBLE: Trouble = ("", "")


def trouble_of(cause: Cause, detail: str, refusal: RefusalData | None) -> Trouble:
    """Return what a saga is stuck with or is undone for; no payload is in it, of a refusal only its type."""
    if refusal is not None:
        detail = f"{detail}: {refusal.type}"
    found = _STEP.match(detail)
    return (found[1] if found is not None else "", f"{cause.value}: {detail}" if detail else cause.value)
