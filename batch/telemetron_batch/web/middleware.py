"""What every request passes before a page sees it, outermost first:

SecurityHeaders   headers of every answer; nothing is cached
LingeringClose    an early answer reaches a client that still sends
HostCheck         only names of this server (DNS rebinding)
SameSiteOnly      no request that a page of another site makes
SignedInOnly      who is it? Nobody gets beyond, except to the page for signing in
BugReports        an unexpected error becomes a page that says nothing about it
"""

import secrets
import traceback
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.storage.clock import deadline
from telemetron_batch.web.access import Access, SignInError, Visitor
from telemetron_batch.web.error_pages import LOGGER, answer_batch_error, error_page
from telemetron_batch.web.hosts import is_allowed_host
from telemetron_batch.web.sign_in import redirect_signed_in, set_cookie, sign_in_page

OPEN_PATHS: Final = frozenset({"/healthz", "/sign-in"})
_OPEN_FOLDERS: Final = ("/static/", "/language/")
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LINGER_S: Final = 5.0
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=(), payment=(), usb=()",
}
_HSTS: Final = "max-age=31536000"


class SecurityHeaders:
    """Sets the headers that protect a page, whatever a page has set."""

    def __init__(self, app: ASGIApp, *, has_tls: bool) -> None:
        self._app = app
        self._headers = _HEADERS | ({"strict-transport-security": _HSTS} if has_tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request; complete the headers of the answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class LingeringClose:
    """Reads on for some seconds when the answer is there before the whole request.

    Closing at once resets the connection, and the client might never see the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request; discard what comes after the answer, for a short time."""
        body = _Body(receive, is_complete=not _has_body(scope))

        async def send_and_linger(message: Message) -> None:
            if body.is_complete:
                await send(message)
            elif message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
                await send(message)
            else:
                await send({**message, "more_body": True})
                if not message.get("more_body", False):
                    await body.discard()
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, body.receive, send_and_linger)


class _Body:
    def __init__(self, receive: Receive, *, is_complete: bool) -> None:
        self._receive = receive
        self.is_complete = is_complete

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self.is_complete = True
        return message

    async def discard(self) -> None:
        with suppress(TimeoutError):
            async with deadline(_LINGER_S):
                while not self.is_complete:
                    await self.receive()


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


class HostCheck:
    """Refuses requests that name another host than this one."""

    def __init__(self, app: ASGIApp, *, names: frozenset[str], is_local: bool) -> None:
        self._app = app
        self._names, self._is_local = names, is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request, or answer 421."""
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) == 1 and is_allowed_host(hosts[0], self._names, is_local=self._is_local):
            await self._app(scope, receive, send)
            return
        text = "This server does not answer to that host name. Its administrator can add it: --allowed-host NAME.\n"
        await PlainTextResponse(text, 421)(scope, receive, send)


class SameSiteOnly:
    """Refuses requests that a page of another site has made; only links from there may lead here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request, or answer 403."""
        allowed = _is_from_here(Headers(scope=scope), is_reading=scope["method"] in _READING)
        refusal = PlainTextResponse("This request came from a page of another site.\n", 403)
        await (self._app if allowed else refusal)(scope, receive, send)


def _is_from_here(headers: Headers, *, is_reading: bool) -> bool:
    """Return whether a request may come from here, by what the browser says. The CSRF token decides afterwards.

    Browsers send `Origin: null` with forms of this page, because it sends no referrer.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none"):
        return is_reading and headers.get("sec-fetch-mode") == "navigate"
    if is_reading or origin in (None, "null"):
        return True
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


class _SessionOverError(Exception):
    """The session of a user has ended while a stream was open."""


class SignedInOnly:
    """Finds out who makes a request, and lets nobody else in."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request of a user; answer any other with the page for signing in."""
        request = Request(scope, receive)
        visitor = self._access.identify(request)
        scope.setdefault("state", {}).update(user=visitor.user, csrf=visitor.csrf, visitor=visitor)
        response = self._answer_without_page(request, visitor)
        if response is not None:
            self._add_form_cookie(visitor, MutableHeaders(raw=response.raw_headers))
            await response(scope, receive, send)
            return
        with suppress(_SessionOverError):
            await self._app(scope, receive, self._guarded(request, visitor, send))

    def _answer_without_page(self, request: Request, visitor: Visitor) -> Response | None:
        token = request.query_params.get("token") if request.url.path == "/" and request.method == "GET" else None
        if token is not None and self._access.token is not None:
            return self._redeem(token, request, visitor)
        is_open = request.url.path in OPEN_PATHS or request.url.path.startswith(_OPEN_FOLDERS)
        return None if is_open or visitor.user is not None else sign_in_page(request, status=401)

    def _redeem(self, token: str, request: Request, visitor: Visitor) -> Response:
        """Sign in the browser that brings the token; not one that only loads the page in advance."""
        if "prefetch" in request.headers.get("sec-purpose", request.headers.get("purpose", "")):
            return PlainTextResponse("Not in advance.\n", 503)
        try:
            return redirect_signed_in(self._access, self._access.sign_in_by_token(token, visitor.peer))
        except SignInError as exc:
            if visitor.user is not None:
                return RedirectResponse("/", 303)
            return sign_in_page(request, status=401, failure=exc)

    def _add_form_cookie(self, visitor: Visitor, headers: MutableHeaders) -> None:
        if visitor.new_form_cookie is not None:
            headers.append("set-cookie", set_cookie(self._access.cookies.form, visitor.new_form_cookie, self._access))

    def _guarded(self, request: HTTPConnection, visitor: Visitor, send: Send) -> Send:
        """Return a `send` that sets the form's cookie, and ends a stream when the session of its user ends."""
        is_stream = False

        async def guarded(message: Message) -> None:
            nonlocal is_stream
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_stream = headers.get("content-type", "").startswith("text/event-stream")
                if request.url.path in OPEN_PATHS - {"/healthz"}:
                    self._add_form_cookie(visitor, headers)
            elif is_stream and visitor.user is not None and not self._access.is_still(visitor, request):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                raise _SessionOverError
            await send(message)

        return guarded


class BugReports:
    """Turns an unexpected error into a page with a number, and writes it to the log of the server."""

    def __init__(self, app: ASGIApp, *, verbose: bool) -> None:
        self._app = app
        self._verbose = verbose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request; answer 500 if that fails."""
        has_started = False

        async def noting_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception as exc:  # noqa: BLE001 - the last resort: nothing of it may reach the browser
            response = self._answer(Request(scope), exc)
            if not has_started:
                await response(scope, receive, send)

    def _answer(self, request: Request, exc: Exception) -> Response:
        if isinstance(exc, BatchError | OSError):
            return answer_batch_error(request, exc)
        number = secrets.token_hex(4)
        detail = traceback.format_exc() if self._verbose else "run serve with -v for the traceback"
        LOGGER.error("a bug (%s) at %s: %s: %s; %s", number, request.url.path, type(exc).__name__, exc, detail)
        return error_page(request, 500, "bug", number=number)
