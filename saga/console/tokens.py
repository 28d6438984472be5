"""Make and check the token that a form carries, so that no other site can send it."""

from __future__ import annotations

import hashlib
import hmac
import secrets

COOKIE = "saga_console"
FIELD = "csrf"
HEADER = "x-saga-csrf"
_BYTES = 24


class Tokens:
    """Sign tokens with a secret; a token counts only beside the cookie and the user it was made for."""

    def __init__(self, secret: bytes = b"") -> None:
        """Take a secret that the replicas share; without one it is drawn, and tokens end with the process."""
        self._secret = secret or secrets.token_bytes(32)

    def nonce(self) -> str:
        """Draw the value of a new cookie."""
        nonce = secrets.token_urlsafe(_BYTES)
        return f"{nonce}.{self._sign('cookie', nonce)}"

    def knows(self, cookie: str) -> bool:
        """Return whether a cookie is one of ours."""
        nonce, _, signature = cookie.partition(".")
        return hmac.compare_digest(signature.encode(), self._sign("cookie", nonce).encode())

    def token(self, cookie: str, user: str) -> str:
        """Return the token for forms of `user` in the browser that holds `cookie`."""
        return self._sign("form", f"{cookie}\n{user}")

    def fits(self, token: str, cookie: str, user: str) -> bool:
        """Return whether a token was made for this cookie, which is one of ours, and this user."""
        return self.knows(cookie) and hmac.compare_digest(token.encode(), self.token(cookie, user).encode())

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()
