"""Look at users' SQL just closely enough: does it write, and where are its placeholders."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

_SKIPPED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/"""
_TOKENS = re.compile(rf"(?s:{_SKIPPED})|`[^`]*`|\[[^\]]*\]|(?<![\w$])\$(\d+)")
_QUIET = re.compile(rf"(?s:{_SKIPPED})")
_WORD = re.compile(r"[\s(]*([a-z]+)")
_WRITES = re.compile(r"\b(?:insert|update|delete|merge|replace|into)\b")


class Kind(StrEnum):
    """Say what a statement can do: READ cannot change a row, CHANGE tells by its count, OTHER may do anything."""

    READ = "read"
    CHANGE = "change"
    OTHER = "other"


@lru_cache(maxsize=1024)
def kind_of(sql: str) -> Kind:
    """Return a statement's kind by its words, comments and strings left out.

    A select that calls a function which writes passes for READ.
    """
    quiet = _QUIET.sub(" ", sql).lower()
    match = _WORD.match(quiet)
    word = match[1] if match else ""
    if ";" in quiet.rstrip().rstrip(";"):
        return Kind.OTHER
    if word in ("insert", "update", "delete", "merge", "replace"):
        return Kind.CHANGE
    if word == "select":
        return Kind.OTHER if re.search(r"\binto\b", quiet) else Kind.READ
    if word in ("with", "values", "table"):
        return Kind.OTHER if _WRITES.search(quiet) else Kind.READ
    return Kind.OTHER


@lru_cache(maxsize=1024)
def numbered(sql: str) -> str:
    """Return `sql` with `$1` written as SQLite's `?1`, except in strings, quoted names and comments."""
    return _TOKENS.sub(lambda match: f"?{match[1]}" if match[1] else match[0], sql)


def may_have_written(sql: str, rows: int) -> bool:
    """Return whether a statement that touched `rows` rows may have changed one."""
    kind = kind_of(sql)
    return rows > 0 if kind is Kind.CHANGE else kind is Kind.OTHER
