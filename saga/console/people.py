"""Say who looks at the console, and what they may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import Request


class Role(StrEnum):
    """Say what somebody may do: look; also retry, cancel, hold, release, replay; also skip, resolve, discard."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


_RANK = {Role.READ: 0, Role.OPERATE: 1, Role.ADMIN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Be a person at the console; `name` goes into the audit trail."""

    name: str
    role: Role = Role.READ

    def may(self, role: Role) -> bool:
        """Return whether the user's role includes `role`."""
        return _RANK[self.role] >= _RANK[role]


Authenticate = Callable[[Request], Awaitable[User | None]]
"""Find out who asks: the user, or None for nobody, who then sees nothing."""
