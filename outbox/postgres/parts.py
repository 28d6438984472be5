"""Put one statement together from its non-empty parts; an all-parts statement would cost planning each time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outbox.codec import Values
from saga._core.keeping import Publishing

_NUMBERED = ("insert_outbox", "insert_alike_outbox")
_PARAMETER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Part:
    """Be one named query and its arguments."""

    name: str
    args: Sequence[object]


def columns(rows: Sequence[Values]) -> list[list[object]]:
    """Turn rows into the arrays that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]


class Composer:
    """Compose statements of named parts that number their own parameters; each composition is made once."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = queries
        self._known: dict[tuple[str, ...], str] = {}
        self.publishing = Publishing.RELAY

    def read(self, parts: Sequence[Part]) -> tuple[str, list[object]]:
        """Return the union of all parts."""
        return self._text(("union", *(part.name for part in parts))), _args(parts)

    def write(self, parts: Sequence[Part]) -> tuple[str, list[object]]:
        """Return one statement that does all parts; its rows are what the parts return."""
        return self._text(("with", *(part.name for part in parts))), _args(parts)

    def whole(self, parts: Sequence[Part], expected: Mapping[str, int]) -> tuple[str, list[object]]:
        """Return one statement that does all parts or, unless each part meets as many rows as expected, fails.

        So it needs no transaction around it to be undone. Its rows are `seq`s, and a 0 for each part that was counted.
        """
        key = ("whole", *expected, "of", *(part.name for part in parts))
        if key not in self._known:
            self._known[key] = self._whole([part.name for part in parts], list(expected))
        return self._known[key], [*_args(parts), *expected.values()]

    def _text(self, key: tuple[str, ...]) -> str:
        if key not in self._known:
            self._known[key] = self._union(key[1:]) if key[0] == "union" else self._with(key[1:])
        return self._known[key]

    def _union(self, names: Sequence[str]) -> str:
        return "\nunion all\n".join(self._shifted(names))

    def _with(self, names: Sequence[str]) -> str:
        texts = self._shifted(names)
        if len(texts) == 1:
            return texts[0]
        bodies = ",\n".join(f"{name} as (\n{text}\n)" for name, text in zip(names, texts, strict=True))
        telling = [name for name, text in zip(names, texts, strict=True) if "returning" in text]
        rows = " union all ".join(f"select part, seq from {name}" for name in telling)  # noqa: S608 - names of ours
        return f"with {bodies}\n{rows or 'select 1 where false'}"

    def _whole(self, names: Sequence[str], counted: Sequence[str]) -> str:
        texts = self._shifted(names)
        bodies = ",\n".join(f"{name} as (\n{text}\n)" for name, text in zip(names, texts, strict=True))
        taken = max((int(number) for text in texts for number in _PARAMETER.findall(text)), default=0)
        # All of the conditions have to be looked at, so they stand in the one place nothing can be left out of.
        found = [
            f"select 0::bigint / (case when (select count(*) from {name}) = ${taken + at} then 1 else 0 end) as seq"  # noqa: S608 - names of ours
            for at, name in enumerate(counted, 1)
        ]
        found += [f"select seq from {name}" for name in names if name in _NUMBERED]  # noqa: S608 - a name of ours
        return f"with {bodies}\n" + (" union all ".join(found) or "select 0::bigint as seq where false")

    def _shifted(self, names: Sequence[str]) -> list[str]:
        texts: list[str] = []
        offset = 0
        for name in names:
            text = self._queries[name]
            texts.append(_shift(text, offset))
            offset += max((int(number) for number in _PARAMETER.findall(text)), default=0)
        return texts


def _shift(text: str, offset: int) -> str:
    return _PARAMETER.sub(lambda match: f"${int(match[1]) + offset}", text)


def _args(parts: Sequence[Part]) -> list[object]:
    return [arg for part in parts for arg in part.args]
