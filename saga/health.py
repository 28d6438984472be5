"""Answer `/livez` and `/readyz`: an ASGI application of its own, to be mounted anywhere or served beside an app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import orjson

from saga._core.readiness import Check, CheckState, Readiness
from saga._http import Asgi, Receive, Scope, Send

__all__ = ["Check", "CheckState", "Readiness", "Ready", "health_app"]

OK, NOT_FOUND, NOT_ALLOWED, UNAVAILABLE = 200, 404, 405, 503
_METHODS = ("GET", "HEAD")


class Ready(Protocol):
    """Be what can say whether it is ready, such as an `App`."""

    async def readiness(self) -> Readiness:
        """Ask everything it needs; raises nothing for what is not well."""
        ...


def health_app(app: Ready) -> Asgi:
    """Return an ASGI application that answers GET and HEAD for `/livez` and `/readyz`, below any prefix.

    `/livez` is 200 whenever the event loop turns, and asks nobody. `/readyz` is 200 when all checks are well, else 503;
    its body is JSON: `{"ready": false, "checks": [{"name": …, "state": "ok" | "failed", "reason": …, "seconds": …}]}`.
    """
    return _Health(app)


@dataclass(frozen=True, slots=True)
class _Health:
    """Be the application."""

    app: Ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            status, body = await self._answer(scope)
            await _say(send, status, b"" if scope["method"] == "HEAD" else orjson.dumps(body), len(orjson.dumps(body)))

    async def _answer(self, scope: Scope) -> tuple[int, dict[str, object]]:
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", ""))).rstrip("/")
        if path not in ("/livez", "/readyz"):
            return NOT_FOUND, {"error": "there are /livez and /readyz"}
        if scope["method"] not in _METHODS:
            return NOT_ALLOWED, {"error": "only GET and HEAD"}
        if path == "/livez":
            return OK, {"alive": True}
        found = await self.app.readiness()
        return OK if found.is_ready else UNAVAILABLE, {"ready": found.is_ready, "checks": list(found.checks)}


async def _live(receive: Receive, send: Send) -> None:
    """Speak the lifespan protocol: there is nothing to open."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _say(send: Send, status: int, body: bytes, length: int) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(length).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if status == NOT_ALLOWED:
        headers.append((b"allow", ", ".join(_METHODS).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
