"""Pages that say what went wrong and what to do."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from telemetron_batch.domain.errors import BatchError, DiskError, LockedError, system_error
from telemetron_batch.domain.printable import printable
from telemetron_batch.web.context import context_of, user_of
from telemetron_batch.web.render import render

LOGGER: Final = logging.getLogger("telemetron_batch_serve")
"""What the administrator of the server must know."""
_BY_STATUS: Final = {400: "bad_request", 401: "signed_out", 403: "forbidden", 404: "not_found", 405: "not_found"}
_CODES: Final = frozenset(
    {*_BY_STATUS.values(), "csrf", "too_large", "too_slow", "cut_short", "busy", "bug", "problem"}
)
"""The keys of texts under [errors]."""


def error_page(
    request: Request, status: int, code: str, *, text: str | None = None, number: str | None = None
) -> Response:
    """Return the page for an error; its text is that of the code, or the given one. A script gets the text alone."""
    code = code if code in _CODES else "problem"
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(printable(text or code) + "\n", status)
    return render(request, "error.html.j2", status=status, code=code, text=text, number=number)


def answer_http_exception(request: Request, exc: Exception) -> Response:
    """Return the page for an HTTPException; its detail is a code, or a text for the user."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - the only class it is registered for
    code = exc.detail if exc.detail in _CODES else _BY_STATUS.get(exc.status_code, "problem")
    text = None if exc.detail in _CODES or code != "problem" else exc.detail
    response = error_page(request, exc.status_code, code, text=text)
    response.headers.update(exc.headers or {})
    return response


def answer_batch_error(request: Request, exc: Exception) -> Response:
    """Return the page for an error that the program explains. Its text may name folders, so it is for users only."""
    error = system_error(exc) if isinstance(exc, OSError) else exc
    by_class = ((LockedError, 409), (DiskError, 507), (BatchError, 400))
    status = next((status for kind, status in by_class if isinstance(error, kind)), 500)
    if status >= 500:
        LOGGER.error("%s", error)
    if getattr(request.state, "user", None) is None:
        return error_page(request, status, "problem")
    context = context_of(request)
    if request.method == "POST":
        with suppress(BatchError):
            context.audit.record(user_of(request), "refused", path=request.url.path, why=printable(str(error)))
    text = without_folder(str(error), context.config.reports_dir)
    return error_page(request, status, "problem", text=printable(text))


def without_folder(text: str, reports_dir: Path) -> str:
    """Return a text for users, who need not know where the server keeps its reports."""
    return text.replace(f"{reports_dir.absolute()}{os.sep}", "")
