"""Let in only who may come in: the right host, a known user, and forms that our own pages have sent."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saga.console.people import Authenticate, Role, User
from saga.console.tokens import COOKIE, FIELD, HEADER, Tokens
from saga.console.visits import KEY, Visit, form_of

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
MAX_BODY = 64 * 1024
MAX_QUERY = 4 * 1024
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLetIn(Exception):
    """Say with which status and sentence a request is turned down."""

    status: int
    sentence: str


Say = Callable[[Request, int, str], Awaitable[ASGIApp]]
"""Make the answer for a request that is not let in."""


class Guard:
    """Be the only way to the pages of a console; an ASGI app around them.

    Without `authenticate` only programs on this machine are let in, as its own user with every right. `hosts` are
    the names under which the console may be asked for, beside those of this machine: a name that somebody else has
    pointed here is turned down.
    """

    def __init__(
        self, app: ASGIApp, *, authenticate: Authenticate | None, hosts: Iterable[str], tokens: Tokens, say: Say
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._hosts = frozenset(host.lower().rstrip(".") for host in (*LOCAL_HOSTS, *hosts))
        self._tokens = tokens
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of type http."""
        request = Request(scope, receive)
        cookie, fresh = self._cookie(request)
        try:
            visit = await self._let_in(request, cookie)
        except NotLetIn as refused:
            said = await self._say(request, refused.status, refused.sentence)
            await said(scope, receive, _headed(send, ""))
            return
        answer = _headed(send, _set_cookie(request, cookie) if fresh else "")
        await self._app({**scope, KEY: visit}, receive, answer)

    async def _let_in(self, request: Request, cookie: str) -> Visit:
        host = self._check_host(request)
        _check_size(request)
        user = await self._who(request)
        token = self._tokens.token(cookie, user.name)
        if request.method in ("GET", "HEAD"):
            return Visit(user=user, token=token)
        if request.method != "POST":
            raise NotLetIn(status=405, sentence=f"{request.method} is not known here")
        _check_origin(request, host)
        form = await _read_form(request)
        if not self._tokens.fits(request.headers.get(HEADER) or form.get(FIELD, ""), cookie, user.name):
            raise NotLetIn(status=403, sentence="this form is not of this console, or too old: load the page again")
        return Visit(user=user, token=token, form=form)

    def _check_host(self, request: Request) -> str:
        named = request.headers.getlist("host")
        host = _host_of(named[0]) if len(named) == 1 else None
        if host is None or host not in self._hosts:
            sentence = "the console does not go by this host name: name it in Console(hosts=[…])"
            raise NotLetIn(status=421, sentence=sentence)
        return named[0]

    async def _who(self, request: Request) -> User:
        if self._authenticate is not None:
            user = await self._authenticate(request)
            if user is None or not user.name.strip():
                raise NotLetIn(status=401, sentence="nobody known asks: log in where this console is mounted")
            return user
        if not _is_local(request):
            sentence = "without an authentication hook only this machine may look: give Console(authenticate=…)"
            raise NotLetIn(status=403, sentence=sentence)
        return User(name=_login(), role=Role.ADMIN)

    def _cookie(self, request: Request) -> tuple[str, bool]:
        found = cookie_parser(request.headers.get("cookie", "")).get(_cookie_name(request), "")
        if self._tokens.knows(found):
            return found, False
        return self._tokens.nonce(), True


def _check_size(request: Request) -> None:
    if len(request.scope.get("query_string", b"")) > MAX_QUERY:
        raise NotLetIn(status=414, sentence=f"the address is longer than {MAX_QUERY} characters")
    if "\x00" in request.scope["path"] or b"%00" in request.scope.get("query_string", b""):
        raise NotLetIn(status=400, sentence="the address holds a zero byte, which no database can look for")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY:
        raise NotLetIn(status=413, sentence=f"the form is larger than {MAX_BODY} bytes")


def _check_origin(request: Request, host: str) -> None:
    """Turn down a form that a page of another site has sent; every browser names the origin with a form."""
    try:
        origin = urlsplit(request.headers.get("origin", ""))
    except ValueError:
        origin = urlsplit("")
    schemes = ("https",) if request.scope["scheme"] == "https" else ("http", "https")  # a proxy may speak TLS for us
    if origin.scheme not in schemes or origin.netloc.lower() != host.lower():
        raise NotLetIn(status=403, sentence="the form was sent by a page of another site")


async def _read_form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise NotLetIn(status=415, sentence="forms are sent as application/x-www-form-urlencoded")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise NotLetIn(status=413, sentence=f"the form is larger than {MAX_BODY} bytes")
    try:
        return form_of(body)
    except ValueError as error:
        raise NotLetIn(status=400, sentence="the form cannot be read") from error


def _host_of(named: str) -> str | None:
    """Return the host of a Host header without its port; None for what is none."""
    try:
        parts = urlsplit(f"//{named}")
        usable = parts.netloc == named and parts.username is None and (parts.port is None or parts.port >= 0)
    except ValueError:
        return None
    return (parts.hostname or "").lower().rstrip(".") if usable else None


def _is_local(request: Request) -> bool:
    """Return whether the request comes from this machine, and not through a proxy on it for somebody else."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "local"


def _cookie_name(request: Request) -> str:
    """Return a name with the port in it: consoles on one machine share their cookies otherwise."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isascii() and port.isdigit() else COOKIE


def _set_cookie(request: Request, value: str) -> str:
    secure = "; Secure" if request.scope["scheme"] == "https" else ""
    path = request.scope.get("root_path", "") or "/"
    return f"{_cookie_name(request)}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}"


def _headed(send: Send, cookie: str) -> Send:
    """Return a `send` that puts our headers on every answer."""

    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if cookie:
                headers.append("set-cookie", cookie)
        await send(message)

    return headed


__all__ = ["HEADERS", "Guard", "NotLetIn"]
