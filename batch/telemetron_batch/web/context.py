"""What a page of the desk needs: configuration, audit log, the user of a request, and checks on what is posted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from telemetron_batch.config.config import RunConfig
from telemetron_batch.web.audit import AuditLog
from telemetron_batch.web.forms import read_form
from telemetron_batch.web.options import ServeOptions
from telemetron_batch.web.people import Role, User

if TYPE_CHECKING:
    from telemetron_batch.web.desk.desk import Desk

__all__ = [
    "AuditLog",
    "Role",
    "ServeOptions",
    "User",
    "WebContext",
    "action",
    "context_of",
    "csrf_token",
    "require",
    "user_of",
]

Page = Callable[[Request], Awaitable[Response]]
Action = Callable[[Request, FormData], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class WebContext:
    """What lives as long as the server."""

    config: RunConfig
    options: ServeOptions
    audit: AuditLog
    desk: Desk


def context_of(request: Request) -> WebContext:
    """Return the context of the server."""
    return cast(WebContext, request.app.state.context)


def user_of(request: Request) -> User:
    """Return the user who makes a request. Raises HTTPException 401 if nobody is signed in."""
    user = getattr(request.state, "user", None)
    if not isinstance(user, User):
        raise HTTPException(401)
    return user


def require(request: Request, role: Role) -> User:
    """Return the user who makes a request. Raises HTTPException 403 unless the role includes this one."""
    user = user_of(request)
    if not user.role.includes(role):
        raise HTTPException(403)
    return user


def csrf_token(request: Request) -> str:
    """Return the token that a form of this user's session must send as the field `csrf`."""
    return cast(str, request.state.csrf)


def action(role: Role, *, uploads: bool = False) -> Callable[[Action], Page]:
    """Return a decorator for the endpoint of a POST: only for this role, and only with the form's CSRF token.

    The endpoint gets the form, whose files are closed after it. Without `uploads` the form must be small and without
    files. Every route that takes POST must be decorated; `make_app` checks that. A script sends the token in the
    header `X-CSRF-Token`.
    """

    def decorate(act: Action) -> Page:
        @wraps(act)
        async def checked(request: Request) -> Response:
            require(request, role)
            form = await read_form(request, context_of(request).options if uploads else None)
            try:
                return await act(request, form)
            finally:
                await form.close()

        cast(Any, checked).is_action = True
        return checked

    return decorate
