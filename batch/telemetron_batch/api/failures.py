"""Tell from an exception of the HTTP library how a request failed, and in words that name the cause."""

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Final

import httpcore2
import httpx2

try:
    import socksio
except ImportError:  # an extra, which only SOCKS proxies need
    socksio = None  # type: ignore[assignment]

from telemetron_batch.api.classify import FailureKind

_KINDS: Final[Mapping[str, FailureKind]] = {
    "ConnectError": FailureKind.CONNECTION,
    "ConnectTimeout": FailureKind.CONNECT_TIMEOUT,
    "PoolTimeout": FailureKind.CONNECT_TIMEOUT,
    "ProxyError": FailureKind.PROXY_REFUSED,
    "ReadTimeout": FailureKind.TIMEOUT,
    "WriteTimeout": FailureKind.TIMEOUT,
    "ReadError": FailureKind.CUT,
    "WriteError": FailureKind.CUT,
    "CloseError": FailureKind.CUT,
    "RemoteProtocolError": FailureKind.CUT,
    "DecodingError": FailureKind.UNUSABLE,
}
"""By the name of an exception. httpx2 and its core use the same names."""
_SOCKS_KINDS: Final[Mapping[type[Exception], FailureKind]] = (
    {} if socksio is None else {socksio.exceptions.SOCKSError: FailureKind.PROXY}
)
"""The library of SOCKS meets an answer that is not SOCKS 5."""
ERROR_KINDS: Final[Mapping[type[Exception], FailureKind]] = {
    **{getattr(httpx2, name): kind for name, kind in _KINDS.items()},
    **{getattr(httpcore2, name): kind for name, kind in _KINDS.items() if hasattr(httpcore2, name)},
    **_SOCKS_KINDS,
    ssl.SSLError: FailureKind.TLS,
}
"""The kind of failure for each exception of the libraries. Any other exception is a bug and is raised."""

_UNKNOWN_ISSUER: Final = frozenset({18, 19, 20, 21})
"""OpenSSL's codes for a certificate whose issuer is not trusted: self-signed, or issued by an unknown CA."""
_NOT_TLS_FAILURES: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""Exceptions of `ssl` that mean "closed" or "needs more bytes", not a TLS failure."""


def failure_of(exc: Exception, *, at_proxy: bool) -> tuple[FailureKind, str]:
    """Return how a request failed and the text of the cause. `exc` is one of `ERROR_KINDS`.

    `at_proxy`: a proxy was asked, or about to be asked, to open the way to the API.
    """
    kind = next(kind for error, kind in ERROR_KINDS.items() if isinstance(exc, error))
    causes = [*_causes(exc)]
    text = "" if kind is FailureKind.CONNECTION else str(exc).strip()  # "All connection attempts failed"
    text = text or _system_text(causes) or str(exc)
    if kind is FailureKind.PROXY_REFUSED:
        return _proxy_failure(str(exc))
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if tls is not None and not isinstance(tls, _NOT_TLS_FAILURES):
        is_unknown = isinstance(tls, ssl.SSLCertVerificationError) and tls.verify_code in _UNKNOWN_ISSUER
        return FailureKind.UNTRUSTED if is_unknown else FailureKind.TLS, f"{_text(tls)}{' of the proxy' * at_proxy}"
    if at_proxy:
        return FailureKind.PROXY, _PROXY_TEXTS.get(kind, text)
    if kind is FailureKind.CONNECTION:
        return _connect_failure(causes), text
    return kind, text


_PROXY_TEXTS: Final[Mapping[FailureKind, str]] = {
    FailureKind.CONNECT_TIMEOUT: "it does not answer",
    FailureKind.TIMEOUT: "it does not answer",
    FailureKind.CUT: "it broke the connection",
}
"""What a failure means while a proxy is asked for a connection."""
_LOGIN_REFUSED: Final = ("401", "407")
"""Answers of a proxy to CONNECT about its credentials; tinyproxy answers 401 to wrong ones."""
_REFUSED_FOR_NOW: Final = ("408", "425", "429")
"""Answers of a proxy to CONNECT after which another attempt may succeed."""


def _connect_failure(causes: list[BaseException]) -> FailureKind:
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return FailureKind.NAME
    if isinstance(_system_error(causes), ConnectionRefusedError):
        return FailureKind.REFUSED
    return FailureKind.CONNECTION


def _system_error(causes: list[BaseException]) -> OSError | None:
    return next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), None)


def _system_text(causes: list[BaseException]) -> str:
    error = _system_error(causes)
    return "" if error is None else _text(error)


def _proxy_failure(text: str) -> tuple[FailureKind, str]:
    """Return the failure for a proxy's answer to CONNECT, such as `403 Forbidden`, or for a text of SOCKS."""
    if text.startswith(_LOGIN_REFUSED) or re.search("authentication|username", text, re.IGNORECASE):
        return FailureKind.PROXY_LOGIN, text
    if (re.match(r"[134]\d\d\b", text) and not text.startswith(_REFUSED_FOR_NOW)) or "not allowed" in text:
        return FailureKind.PROXY_REFUSED, text
    return FailureKind.CONNECTION, f"the proxy answered {text}"


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and everything that caused it, the outermost first."""
    while exc is not None:
        yield exc
        if isinstance(exc, BaseExceptionGroup):
            for one in exc.exceptions:
                yield from _causes(one)
        exc = exc.__cause__ or exc.__context__


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, (socket.gaierror, ssl.SSLError)):
        return os.strerror(error.errno)  # asyncio puts "Connect call failed" and the address into its own text
    return str(getattr(error, "strerror", None) or error)
