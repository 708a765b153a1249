"""What stands before every request: security headers, sizes, rates, and a log line without personal data."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auriscope.study.ids import sha256_of
from auriscope.study.settings import Settings

LOG = logging.getLogger("auriscope.study")

# Scripts, styles and sounds come from the server itself; a recording that is played before it is sent is a blob.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

MAX_FORM_BYTES = 262_144
"""The largest body of anything but a recording."""

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Nothing goes to others. Our own forms say where they come from, which `no-referrer` would hide too.
    "referrer-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class SecurityHeaders:
    """Adds the headers that keep a page from loading, framing or leaking anything."""

    def __init__(self, app: ASGIApp, https: bool) -> None:
        self._app = app
        headers = HEADERS | ({"strict-transport-security": "max-age=31536000"} if https else {})
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_static = scope["path"].startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in self._headers if name not in present),
                ]
                if not is_static and b"cache-control" not in present:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Watch:
    """Lets requests pass, and hears of each when it has been answered: :meth:`answered`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Take note of a request, by its route and never by its address; one that failed has status 500."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self.answered(scope["method"], route, status, time.perf_counter() - start)


class RequestLog(Watch):
    """Writes one JSON line per request: method, route, status, milliseconds; no address, no query, no name."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Write the line."""
        line = {
            "event": "request",
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
        }
        LOG.info(json.dumps(line))


class SmallBodies:
    """Refuses bodies that no form of ours has: only recordings are large, and they are counted where they are taken."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"].startswith("/api/submissions/"):
            await self._app(scope, receive, send)
            return
        num_bytes = 0

        async def count() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            # A sender may say nothing of the length, or lie.
            return {"type": "http.disconnect"} if num_bytes > MAX_FORM_BYTES else message

        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced) <= MAX_FORM_BYTES:
            await self._app(scope, count, send)
            return
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error":"too_large"}'})


class SameSite:
    """Refuses whatever changes something and was sent by a page of somebody else.

    Forms of visitors who have begun carry a token besides; the form that begins has no cookie yet that one could belong
    to.
    """

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        self._app, self._public = app, public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS") or self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error":"form"}'})

    def _is_ours(self, scope: Scope) -> bool:
        # Browsers that know this header cannot be made to lie in it; older ones at least name the origin.
        site = _header(scope, b"sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = _header(scope, b"origin")
        if origin is None:
            return True
        scheme = origin.partition("://")[0]
        hosts = (f"{scheme}://{_header(scope, b'host') or ''}", self._public)
        return _host_of(origin) is not None and _host_of(origin) in map(_host_of, hosts)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1").strip() for key, value in scope["headers"] if key == name), None)


def _host_of(url: str) -> tuple[str, int | None] | None:
    """Give host and port of an address; None if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return None if not parts.hostname else (parts.hostname, port)


class RateLimits:
    """Lets every address and every session only so many requests a minute; more are answered with 429."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        shared = settings.queue.startswith("redis://")
        self._limiter = MovingWindowRateLimiter(storage_from_string(settings.queue if shared else "memory://"))
        self._proxies = [ip_network(proxy, strict=False) for proxy in settings.trusted_proxies]
        self._all = RateLimitItemPerMinute(settings.requests_per_minute)
        self._uploads = RateLimitItemPerMinute(settings.uploads_per_minute)
        self._logins = RateLimitItemPerMinute(settings.logins_per_minute)
        self._begins = RateLimitItemPerMinute(settings.begins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"].startswith(("/static/", "/healthz")):
            await self._app(scope, receive, send)
            return
        address = client_address(scope, self._proxies)
        scope["auriscope_address"] = address
        rules: list[tuple[RateLimitItem, str, str]] = [(self._all, "all", address)]
        token = _cookie(scope, b"auriscope_session")
        if scope["method"] in ("PUT", "POST") and scope["path"].startswith("/api/submissions"):
            rules.append((self._uploads, "upload", sha256_of(token)[:32] if token else address))
        if scope["method"] == "POST" and scope["path"] == "/admin/login":
            rules.append((self._logins, "login", address))
        if scope["method"] == "POST" and scope["path"] in ("/begin", "/withdraw"):
            rules.append((self._begins, scope["path"], address))
        if all(self._limiter.hit(rule, kind, who) for rule, kind, who in rules):
            await self._app(scope, receive, send)
            return
        body = b'{"error":"rate"}'
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"60")]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def client_address(scope: Scope, proxies: Iterable[object]) -> str:
    """Give the visitor's address; a proxy's ``X-Forwarded-For`` counts only if the proxy is trusted."""
    host = (scope.get("client") or ("unknown", 0))[0]
    # A proxy may add a line of its own instead of prolonging the one that is there, which a visitor may have sent.
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    if not forwarded:
        return str(host)
    for hop in (host, *reversed([part.strip() for part in forwarded.decode("latin-1").split(",")])):
        host = hop
        try:
            trusted = any(ip_address(hop) in proxy for proxy in proxies)  # type: ignore[operator]
        except ValueError:
            break
        if not trusted:
            break
    return str(host)[:64]


def _cookie(scope: Scope, name: bytes) -> str | None:
    for header, value in scope["headers"]:
        if header == b"cookie":
            for part in value.split(b";"):
                key, _, text = part.strip().partition(b"=")
                if key == name:
                    return str(text.decode("latin-1"))
    return None
