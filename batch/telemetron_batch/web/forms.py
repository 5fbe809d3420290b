"""Read what a form posts: limited in size and time, with the CSRF token of the session."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from telemetron_batch.storage.clock import deadline
from telemetron_batch.web.options import ServeOptions

CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
MAX_FORM_BYTES: Final = 2 << 20
MAX_SIGN_IN_BYTES: Final = 16 << 10
MAX_FIELDS: Final = 200
MAX_FILES: Final = 20
_MULTIPART_BYTES: Final = 1 << 20
"""What an upload may have beside the bytes of its files."""
_FORM_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 30.0
"""Seconds without a byte of an upload after which it ends."""


_MAX_DIGITS: Final = 12


def number_of(text: str) -> int | None:
    """Return a number that was entered in ASCII digits; None for any other text, and for one that is too long."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


class UploadSlots:
    """Limits how many uploads are read at once, so that they cannot fill the disk together."""

    def __init__(self, at_once: int = 4) -> None:
        self._free = at_once

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take a slot for this context. Raises HTTPException 503 without a free one."""
        if self._free == 0:
            raise HTTPException(503, "busy", {"Retry-After": "10"})
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class BodyReader:
    """Receives a request's body up to a size. Raises HTTPException: 413 beyond it, 408 if the client falls silent."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = max_bytes

    async def __call__(self) -> Message:
        """Return the next part of the body."""
        try:
            async with deadline(_SILENCE_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "too_slow") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "too_large")
        return message


async def read_form(request: Request, upload: ServeOptions | None = None, max_bytes: int = MAX_FORM_BYTES) -> FormData:
    """Return the form that was posted with the session's CSRF token; the caller closes it.

    Without `upload`, a form of at most `max_bytes` without files. Raises HTTPException.
    """
    if upload is None:
        return await _read(request, max_bytes, _FORM_SECONDS, max_files=0)
    max_bytes = upload.max_upload + _MULTIPART_BYTES
    _check_length(request, max_bytes)
    with cast(UploadSlots, request.app.state.upload_slots).take():
        form = await _read(request, max_bytes, upload.upload_timeout, max_files=MAX_FILES)
    if sum(one.size or 0 for _, one in form.multi_items() if isinstance(one, UploadFile)) > upload.max_upload:
        await form.close()
        raise HTTPException(413, "too_large")
    return form


async def _read(request: Request, max_bytes: int, seconds: float, *, max_files: int) -> FormData:
    _check_length(request, max_bytes)
    header = request.headers.get(CSRF_HEADER)
    if header is not None:
        _check_token(request, header)
    reader = Request(request.scope, BodyReader(request.receive, max_bytes))
    try:
        async with deadline(seconds):
            form = await reader.form(max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FORM_BYTES)
    except TimeoutError:
        raise HTTPException(408, "too_slow") from None
    except ClientDisconnect:
        raise HTTPException(400, "cut_short") from None
    if header is None:
        try:
            _check_token(request, form.get(CSRF_FIELD))
        except HTTPException:
            await form.close()
            raise
    return form


def _check_length(request: Request, max_bytes: int) -> None:
    """Raise HTTPException 413 before the body is read, if its stated length is too large."""
    text = request.headers.get("content-length", "0")
    if not text.isdecimal() or int(text[:20]) > max_bytes:
        raise HTTPException(413, "too_large")


def _check_token(request: Request, token: object) -> None:
    expected = cast(str, request.state.csrf)
    if not isinstance(token, str) or not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
        raise HTTPException(403, "csrf")
