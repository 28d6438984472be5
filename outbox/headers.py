"""Keep headers as text: in JSON, or packed where what they say stands beside them already."""

from __future__ import annotations

from functools import lru_cache
from itertools import zip_longest

import orjson

from saga._core.envelope import Headers

_LETTERS = {
    "ce_specversion": "v",
    "ce_id": "i",
    "ce_source": "o",
    "ce_type": "t",
    "ce_time": "m",
    "content-type": "j",
    "ce_sagakind": "k",
    "ce_correlationid": "r",
    "ce_sagaid": "s",
    "ce_causationid": "c",
    "ce_expirytime": "x",
    "ce_sagaplan": "p",
    "ce_sagastep": "f",
    "ce_sagabranch": "b",
    "ce_sagatenant": "n",
    "ce_sagalane": "l",
    "ce_tenant": "e",
    "traceparent": "q",
}
_NAMES = {letter: name for name, letter in _LETTERS.items()}
_SAME = b"\t"
"""Stands for a header that the event has at this place too; no attribute has such a character."""


def dump_headers(headers: Headers) -> str:
    """Return headers as JSON; every byte is one character, so any bytes come back as they were."""
    return orjson.dumps([(name, value.decode("latin-1")) for name, value in headers]).decode()


def load_headers(text: str) -> Headers:
    """Return the headers in `dump_headers`' JSON."""
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(text))


def pack_headers(headers: Headers, event: Headers = ()) -> str:
    """Return headers as lines: a letter for each name, then the values, without those that stand in the `event`'s.

    Less than half of the bytes, since the outbox is written for every message. What does not fit into it is JSON.
    """
    if not headers:
        return ""
    names, values = zip(*headers, strict=True)
    letters = _letters(names)
    told = b"\n".join(values)
    if not letters or told.count(b"\n") != len(values) - 1 or b"\t" in told or b"\x00" in told:
        return dump_headers(headers)
    if event:
        # By place: the headers of an event and of its record come in the same order.
        lines = [_SAME if one == other else one[1] for one, other in zip_longest(headers, event[: len(headers)])]
        told = b"\n".join(lines)
    try:
        return letters + told.decode()
    except UnicodeDecodeError:
        return dump_headers(headers)


def unpack_headers(text: str, event: Headers = ()) -> Headers:
    """Return the headers of `pack_headers` of the same event, or of `dump_headers`."""
    if not text:
        return ()
    if text.startswith("["):
        return load_headers(text)
    letters, *lines = text.split("\n")
    told = zip(letters, lines, strict=True)
    return tuple(
        event[at] if line == "\t" else (_NAMES[letter], line.encode()) for at, (letter, line) in enumerate(told)
    )


@lru_cache(256)
def _letters(names: tuple[str, ...]) -> str:
    """Return a line of letters, "" when there is a name without one."""
    found = [_LETTERS.get(name, "") for name in names]
    return "".join(found) + "\n" if all(found) else ""
