"""Send a message through Apprise, the only library that knows the services of the URLs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Final

import apprise

from telemetron_batch.domain.model import Secret
from telemetron_batch.notices.text import Message

_LIBRARY_LOGGER: Final = logging.getLogger("apprise")
_LIBRARY_LOGGER.addHandler(logging.NullHandler())
_LIBRARY_LOGGER.propagate = False  # it would print failures to standard error, which we do in our own words


def is_known(url: Secret) -> bool:
    """Return whether Apprise knows the service of a URL, and finds everything in the URL that it needs."""
    return _service(url) is not None


def send_message(url: Secret, message: Message) -> str | None:
    """Send a message to a URL. Return why it was not sent; None if it was."""
    service = _service(url)
    if service is None:
        return "Apprise does not know such a URL"
    with _collected_problems() as problems:
        is_sent = bool(service.notify(body=message.body, title=message.title, body_format=apprise.NotifyFormat.TEXT))
    return None if is_sent else (problems[-1] if problems else "the service did not take it")


def _service(url: Secret) -> Any:
    """Return the service of a URL; None if Apprise cannot use the URL."""
    asset = apprise.AppriseAsset(
        app_id="telemetron-batch",
        app_desc="telemetron-batch",
        async_mode=False,
        service_timeout=0,  # its own time limit uses threads that delay the end of the process
        storage_mode="memory",
    )
    with _collected_problems():
        return apprise.Apprise.instantiate(url.reveal(), asset=asset, suppress_exceptions=True)


@contextmanager
def _collected_problems() -> Iterator[list[str]]:
    """Yield a list to which the warnings are added that Apprise logs in this thread."""
    handler = _Collector()
    _LIBRARY_LOGGER.addHandler(handler)
    try:
        yield handler.texts
    finally:
        _LIBRARY_LOGGER.removeHandler(handler)


class _Collector(logging.Handler):
    """Keeps the warnings of one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._thread = get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.texts.append(" ".join(record.getMessage().split()).removesuffix("."))
