"""Show sagas in a browser: `Console("postgresql://…")` is an ASGI app for any server, and for any app to mount."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from saga.errors import SettingsError

if TYPE_CHECKING:
    from saga.console.app import Console as Console
    from saga.console.people import Authenticate as Authenticate
    from saga.console.people import Role as Role
    from saga.console.people import User as User

__all__ = ["Authenticate", "Console", "Role", "User"]

_MODULES = {
    "Console": "saga.console.app",
    "Authenticate": "saga.console.people",
    "Role": "saga.console.people",
    "User": "saga.console.people",
}
_EXTRA = ("jinja2", "markupsafe", "starlette")


def __getattr__(name: str) -> Any:
    """Import late: who only reads sagas needs none of the extra's libraries. Raises SettingsError without them."""
    if name not in _MODULES:
        raise AttributeError(f"module 'saga.console' has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise SettingsError("the console needs the extra [console]: pip install 'saga-choreography[console]'") from None
