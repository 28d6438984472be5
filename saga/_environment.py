"""Find values in the environment or in the files it names, and names that are misspelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from saga.errors import SettingsError

FILE = "_FILE"
ALIKE = 0.86
"""How alike two names must be, of 1, before one is taken for the other: SAGA_KAFKA_URL is none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Be a value, with the variable it was found by, and the file's path where it lay in one."""

    text: str
    variable: str
    path: str = ""


def value_in(environ: Mapping[str, str], variable: str, *, with_file: bool) -> Found | None:
    """Return a variable's value, else what is in the file that `<variable>_FILE` names, None where neither is set.

    An empty variable counts as not set; of a file the white space around is left out. Raises SettingsError when both
    are set, or the file cannot be read or is empty.
    """
    text, path = environ.get(variable, ""), environ.get(variable + FILE, "")
    if not with_file and path:
        raise SettingsError(f"{variable}{FILE} is set, but that is no secret: set {variable} itself")
    if text and path:
        raise SettingsError(f"{variable} and {variable}{FILE} are both set: unset one of them")
    if path:
        return Found(text=_read(Path(path), variable + FILE), variable=variable + FILE, path=path)
    return Found(text=text, variable=variable) if text else None


def _read(path: Path, variable: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}={path} cannot be read: it is no text") from None
    if not text:
        raise SettingsError(f"{variable}={path} is empty: write the value into it")
    return text


def near_misses(environ: Iterable[str], known: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Return a sentence for each variable with the prefix that is almost one that is known."""
    names = sorted(known)
    found: list[str] = []
    for name in sorted(environ):
        if not name.upper().startswith(prefix) or name in names:
            continue
        likely = [name.upper()] if name.upper() in names else get_close_matches(name.upper(), names, 1, ALIKE)
        found += [f"{name} is no setting and is ignored: did you mean {each}?" for each in likely]
    return tuple(found)
