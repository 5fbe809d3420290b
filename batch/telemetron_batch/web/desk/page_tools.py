"""What several pages need: work in threads, and whose list or run it is."""

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.web.context import Role, User, context_of, user_of
from telemetron_batch.web.desk.desk import Desk
from telemetron_batch.web.desk.uploads import Upload
from telemetron_batch.web.error_pages import without_folder

P = ParamSpec("P")
T = TypeVar("T")

_SHORT_WAIT_S = 1.5
"""Seconds after which a page that is not ready says so."""
_LONG_WAIT_S = 600.0


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work that may block in a thread, and return its result."""
    return await run_in_threadpool(work, *args, **kwargs)


async def is_soon_done(future: Future[Any]) -> bool:
    """Return whether a future is done within a moment."""
    return future.done() or bool((await _wait(future, _SHORT_WAIT_S)).done)


async def result_of(future: Future[T]) -> T:
    """Return the result of a future once it is done. Raises what its work has raised."""
    await _wait(future, _LONG_WAIT_S)
    if not future.done():
        raise HTTPException(503, "busy")
    return future.result()


async def _wait(future: Future[Any], seconds: float) -> concurrent.futures._base.DoneAndNotDoneFutures[Any]:
    return await in_thread(partial(concurrent.futures.wait, [future], seconds))


def failure_of(future: Future[Any]) -> BatchError | None:
    """Return the error that ended the work of a done future; None without one. Raises what is no BatchError."""
    try:
        future.result()
    except BatchError as exc:
        return exc
    return None


def words_of(error: BatchError | str, desk: Desk, upload: Upload | None = None) -> str:
    """Return an error as users may read it: with the name of their list, and without folders of the server."""
    text = str(error)
    if upload is not None:
        text = text.replace(str(upload.file), upload.name)
    return without_folder(text, desk.config.reports_dir)


def desk_of(request: Request) -> Desk:
    """Return the desk."""
    return context_of(request).desk


def go(path: str) -> RedirectResponse:
    """Return an answer that leads to another page."""
    return RedirectResponse(path, 303)


def record(request: Request, action: str, **facts: str | int | float | bool | None) -> None:
    """Put what the user is about to do into the audit log. Raises BatchError if it cannot be written."""
    context_of(request).audit.record(user_of(request), action, **facts)


def own_upload(request: Request) -> Upload:
    """Return the list that the path names. Raises HTTPException 404 if it is not the user's, or there is none."""
    upload = desk_of(request).uploads.find(request.path_params["upload"])
    user = user_of(request)
    if upload is None or not (user.is_only_user or upload.owner == user.name):
        raise HTTPException(404)
    return upload


def visible_run(request: Request) -> str:
    """Return the run that the path names. Raises HTTPException 404 if the user may not see it, or there is none."""
    run_id = str(request.path_params["run"])
    try:
        owner = desk_of(request).owner(run_id)
    except BatchError:
        raise HTTPException(404) from None
    if not user_of(request).may_see(owner):
        raise HTTPException(404)
    return run_id


def may_act(user: User, owner: str | None) -> bool:
    """Return whether a user may send, stop or undo a run of this owner."""
    is_own = user.is_only_user or owner == user.name
    return user.role.includes(Role.APPROVER) or (user.role.includes(Role.OPERATOR) and is_own)


def own_run(request: Request) -> str:
    """Return the run that the path names. Raises HTTPException 404, or 403 if the user may only look at it."""
    run_id = visible_run(request)
    if not may_act(user_of(request), desk_of(request).owner(run_id)):
        raise HTTPException(403)
    return run_id
