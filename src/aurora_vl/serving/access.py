"""What every request passes: who may ask, how much it may send, what is counted and logged."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aurora_vl.errors import UserError
from aurora_vl.serving.errors import ApiError, error_response
from aurora_vl.serving.limits import Limits
from aurora_vl.serving.metrics import Metrics

log = logging.getLogger(__name__)
COOKIE = "aurora_token"
"""Where the page keeps a token: pictures and videos of a page are asked for without headers."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SHORTEST = 16
_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class Tokens:
    """The bearer tokens that are let in.

    Args:
        tokens: none lets everybody in.
    """

    def __init__(self, tokens: Sequence[str] = ()) -> None:
        self._digests = [_digest(token) for token in tokens]

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Tokens of a file, one a line; lines that begin with # are left out.

        Raises:
            UserError: it cannot be read, holds no token or one that is short.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"--token-file {path} cannot be read ({error})") from None
        tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not tokens or min(map(len, tokens)) < _SHORTEST:
            raise UserError(
                f"--token-file {path} must hold one token a line, each of {_SHORTEST} characters "
                f"or more; openssl rand -hex 32 > {path} makes one"
            )
        return cls(tokens)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, headers: Headers) -> bool:
        """Whether a request has one of them; all are compared, each in constant time."""
        if not self._digests:
            return True
        given = _digest(_given(headers))
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _given(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


class Access:
    """ASGI middleware.

    Args:
        app: what it stands before.
        limits: of a request's body.
        metrics: requests are counted there.
        tokens: that are let in.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, tokens: Tokens) -> None:
        self._app, self._limits, self._metrics, self._tokens = app, limits, metrics, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, self._bounded(receive), sending)
        except HTTPException as error:
            await error_response(error)(scope, receive, sending)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _admit(self, scope: Scope) -> None:
        """Refuse a stranger, a page of another site, or a body that says it is too large."""
        headers, path = Headers(scope=scope), scope["path"]
        if not self._tokens and _host(headers) not in LOOPBACK:
            raise ApiError(
                403, "without --token-file the server answers to 127.0.0.1 and localhost only."
            )
        guarded = path.startswith("/v1/") or path in ("/metrics", "/openapi.json")
        if guarded and not self._tokens.admit(headers):
            raise ApiError(
                401,
                "a valid token is needed: send the header Authorization: Bearer TOKEN.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._limits.body:
            raise self._too_large()

    def _bounded(self, receive: Receive) -> Receive:
        """The body, cut where it is too large or does not come."""
        received, ended = 0, False

        async def receiving() -> Message:
            nonlocal received, ended
            if ended:  # what is waited for now is the client's leaving
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._limits.body_seconds)
            except TimeoutError:
                raise ApiError(408, "the body did not come in time; send it again.") from None
            received += len(message.get("body", b""))
            if received > self._limits.body:
                raise self._too_large()
            ended = not message.get("more_body", False)
            return message

        return receiving

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"the request is larger than {self._limits.body:,} bytes; send less at once."
        )

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log a request, without anything that the client wrote."""
        route = getattr(scope.get("route"), "path", "none") or "page"
        method = scope["method"] if route != "none" else "none"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        log.info(
            json.dumps(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "method": method,
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                }
            )
        )


def _host(headers: Headers) -> str:
    """The name that a client reached us by; a page that another site's name led here tells it."""
    host = headers.get("host", "")
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
