"""Show settings without their secrets, and put a password into a URL; pure."""

from __future__ import annotations

import re
from enum import StrEnum
from urllib.parse import quote, urlsplit, urlunsplit

from saga.errors import SettingsError

MASK = "***"
_WORDS = ("pass", "secret", "token")
_USER = re.compile(r"^([^:/?#]+://[^:/@?#]*):.*@", re.DOTALL)


class Shown(StrEnum):
    """Say how a value may be shown: as it is, without the passwords in it, or not at all."""

    WHOLE = "whole"
    URL = "url"  # or several, with white space between
    NEVER = "never"


def masked(value: object, shown: Shown) -> object:
    """Return a value as it may be shown; "" and None stay, so that one sees that nothing is set."""
    if not value or shown is Shown.WHOLE:
        return value
    return MASK if shown is Shown.NEVER else " ".join(map(masked_url, str(value).split()))


def masked_url(url: str) -> str:
    """Return a URL with `***` for its password, and for every parameter that sounds like one.

    What lies before the last `@` counts as the password's, so that one written without escapes is hidden too.
    """
    head, mark, query = _USER.sub(rf"\1:{MASK}@", url).partition("?")
    return head + mark + "&".join(_parameter(word) for word in query.split("&"))


def _parameter(word: str) -> str:
    name, equals, _ = word.partition("=")
    lower = name.lower()
    hidden = any(each in lower for each in _WORDS) and not lower.endswith("file")
    return f"{name}{equals}{MASK}" if hidden and equals else word


def with_password(url: str, password: str, variable: str) -> str:
    """Return a URL of PostgreSQL's with a password in it; raises SettingsError naming `variable` where it has no place.

    Without a password the URL is returned as it is.
    """
    if not password:
        return url
    secret = f"{variable}_PASSWORD"
    if not url:
        raise SettingsError(f"{secret} is set, but {variable} is not: set it to postgresql://user@host/database")
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not parts.scheme.startswith("postgres"):
        raise SettingsError(f"{secret} is set, but {variable} is no postgresql:// URL: leave the password out")
    if not at or not user:
        raise SettingsError(f"{secret} is set, but {variable} names no user: write postgresql://user@host/database")
    if ":" in user:
        raise SettingsError(f"{variable} has a password already: leave it out there, or unset {secret}")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
