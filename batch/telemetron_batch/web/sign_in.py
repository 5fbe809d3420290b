"""The pages for signing in and out."""

import math
from typing import cast

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from telemetron_batch.web.access import Access, SignInError, Visitor
from telemetron_batch.web.forms import MAX_SIGN_IN_BYTES, read_form
from telemetron_batch.web.render import render

_DEVICE_SECONDS = 180 * 86_400


def sign_in_page(request: Request, *, status: int = 200, failure: SignInError | None = None) -> Response:
    """Return the page for signing in, or a short text for a script."""
    headers = {"Retry-After": str(math.ceil(failure.wait_s))} if failure is not None and failure.wait_s else {}
    if "text/html" not in request.headers.get("accept", "text/html").replace("*/*", "text/html"):
        return PlainTextResponse("Sign in first.\n", status, headers)
    access = _access(request)
    response = render(
        request,
        "sign_in.html.j2",
        status=status,
        failure=None if failure is None else failure.failure,
        wait_s=0 if failure is None else math.ceil(failure.wait_s),
        way="token" if access.token is not None else "proxy" if access.options.user_header else "password",
        next_page=_next_page(request),
    )
    response.headers.update(headers)
    return response


async def show_sign_in(request: Request) -> Response:
    """Answer GET /sign-in."""
    return RedirectResponse("/", 303) if _visitor(request).user is not None else sign_in_page(request)


async def do_sign_in(request: Request) -> Response:
    """Answer POST /sign-in: check token or password."""
    access = _access(request)
    form = await read_form(request, max_bytes=MAX_SIGN_IN_BYTES)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    name = fields.get("name", "")
    try:
        if access.token is not None:
            secret = access.sign_in_by_token(fields.get("token", "").strip(), _visitor(request).peer)
        else:
            secret = await access.sign_in_by_password(name, fields.get("password", ""), request)
    except SignInError as exc:
        return sign_in_page(request, status=429 if exc.wait_s else 401, failure=exc)
    response = redirect_signed_in(access, secret, local_path(fields.get("next", "/")))
    if access.token is None:
        device = set_cookie(access.cookies.device, access.device_cookie(name), access, max_age=_DEVICE_SECONDS)
        response.headers.append("set-cookie", device)
    return response


async def do_sign_out(request: Request, _: FormData) -> Response:
    """Answer POST /sign-out: end the session."""
    access = _access(request)
    access.sign_out(_visitor(request))
    response = RedirectResponse("/sign-in", 303)
    response.headers.append("set-cookie", set_cookie(access.cookies.session, "", access, max_age=0))
    return response


def redirect_signed_in(access: Access, secret: str, target: str = "/") -> Response:
    """Return an answer that sets the cookie of a session and leads to a page."""
    response = RedirectResponse(target, 303)
    response.headers.append("set-cookie", set_cookie(access.cookies.session, secret, access))
    return response


def set_cookie(name: str, value: str, access: Access, max_age: int | None = None) -> str:
    """Return the header for a cookie that scripts cannot read and that other sites cannot send with a form.

    Not `Strict`: then a browser that follows the printed address from another page would not send it at once.
    """
    age = "" if max_age is None else f"; Max-Age={max_age}"
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if access.cookies.is_secure else ''}{age}"


def local_path(text: str) -> str:
    """Return a path of this server to lead to; `/` for anything else."""
    is_local = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable()
    return text if is_local and "\\" not in text else "/"


def _next_page(request: Request) -> str:
    if request.method != "GET":
        return "/"
    path = request.url.path if request.url.path != "/sign-in" else request.query_params.get("next", "/")
    return local_path(path)


def _access(request: Request) -> Access:
    return cast(Access, request.app.state.access)


def _visitor(request: Request) -> Visitor:
    return cast(Visitor, request.state.visitor)


async def healthz(_: Request) -> Response:
    """Answer GET /healthz: the server answers, and nothing more."""
    return PlainTextResponse("ok\n")


async def keep_session(_: Request) -> Response:
    """Answer GET /session: nothing, but the session was used; for a page on which a user types for long."""
    return Response(status_code=204)


sign_in_routes = [
    Route("/session", keep_session, methods=["GET"]),
    Route("/sign-in", show_sign_in, methods=["GET"]),
    Route("/sign-in", do_sign_in, methods=["POST"]),
    Route("/healthz", healthz, methods=["GET"]),
]
