"""The application: middleware, pages, static files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.web.access import Access
from telemetron_batch.web.context import WebContext, action
from telemetron_batch.web.error_pages import answer_batch_error, answer_http_exception
from telemetron_batch.web.forms import UploadSlots
from telemetron_batch.web.hosts import host_names, is_local
from telemetron_batch.web.middleware import (
    BugReports,
    HostCheck,
    LingeringClose,
    SameSiteOnly,
    SecurityHeaders,
    SignedInOnly,
)
from telemetron_batch.web.people import Role
from telemetron_batch.web.sign_in import do_sign_in, do_sign_out, sign_in_routes

STATIC: Final = Path(__file__).parent / "static"


def make_app(context: WebContext, access: Access, pages: Sequence[BaseRoute]) -> Starlette:
    """Return the application with these pages. Raises ValueError if one takes a form without checking it."""
    options = context.options
    routes: list[BaseRoute] = [
        *sign_in_routes,
        Route("/sign-out", action(Role.VIEWER)(do_sign_out), methods=["POST"]),
        *pages,
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    _require_checked(routes)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(SecurityHeaders, has_tls=options.tls_cert is not None),
            Middleware(BugReports, verbose=options.verbose),
            Middleware(LingeringClose),
            Middleware(HostCheck, names=host_names(options), is_local=is_local(options)),
            Middleware(SameSiteOnly),
            Middleware(SignedInOnly, access=access),
        ],
        exception_handlers={
            HTTPException: answer_http_exception,
            BatchError: answer_batch_error,
            OSError: answer_batch_error,
        },
    )
    app.router.redirect_slashes = False
    app.state.context, app.state.access, app.state.upload_slots = context, access, UploadSlots()
    return app


def _require_checked(routes: list[BaseRoute]) -> None:
    """Raise ValueError if the endpoint of a POST checks no CSRF token."""
    for route in routes:
        if not isinstance(route, Route):
            continue
        writes = (route.methods or set()) - {"GET", "HEAD"}
        if writes and not getattr(route.endpoint, "is_action", False) and route.endpoint is not do_sign_in:
            raise ValueError(f"{route.path} takes a form without @action")
