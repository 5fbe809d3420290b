"""Tell from an exception of the HTTP library how a request failed, and in words that name the cause."""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Final

import httpcore2
import httpx2

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
ERROR_KINDS: Final[Mapping[type[Exception], FailureKind]] = {
    **{getattr(httpx2, name): kind for name, kind in _KINDS.items()},
    **{getattr(httpcore2, name): kind for name, kind in _KINDS.items() if hasattr(httpcore2, name)},
    ssl.SSLError: FailureKind.TLS,
}
"""The kind of failure for each exception of the libraries. Any other exception is a bug and is raised."""

_UNKNOWN_ISSUER: Final = frozenset({18, 19, 20, 21})
"""OpenSSL's codes for a certificate whose issuer is not trusted: self-signed, or issued by an unknown CA."""
_NO_TLS_FAILURES: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""Errors of TLS that a connection meets which is closed, or that waits for bytes."""


def failure_of(exc: Exception, *, is_proxied: bool) -> tuple[FailureKind, str]:
    """Return how a request failed and the text of the cause. `exc` is one of `ERROR_KINDS`."""
    kind = next(kind for error, kind in ERROR_KINDS.items() if isinstance(exc, error))
    causes = [*_causes(exc)]
    if kind is FailureKind.PROXY_REFUSED:
        return _proxy_failure(str(exc))
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if tls is not None and not isinstance(tls, _NO_TLS_FAILURES):
        is_unknown = isinstance(tls, ssl.SSLCertVerificationError) and tls.verify_code in _UNKNOWN_ISSUER
        return FailureKind.UNTRUSTED if is_unknown else FailureKind.TLS, _text(tls)
    if kind is FailureKind.CONNECTION:
        return _connect_failure(exc, causes, is_proxied=is_proxied)
    if kind is FailureKind.CONNECT_TIMEOUT and is_proxied:
        return FailureKind.PROXY, "it does not answer"
    return kind, str(exc)


def _connect_failure(exc: Exception, causes: list[BaseException], *, is_proxied: bool) -> tuple[FailureKind, str]:
    error = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    text = str(exc) if error is None else _text(error)
    if is_proxied:
        return FailureKind.PROXY, text
    if isinstance(error, socket.gaierror):
        return FailureKind.NAME, text
    if isinstance(error, ConnectionRefusedError):
        return FailureKind.REFUSED, text
    return FailureKind.CONNECTION, text


def _proxy_failure(text: str) -> tuple[FailureKind, str]:
    """Return the failure for a proxy's answer to CONNECT, such as `403 Forbidden`, or for a text of SOCKS."""
    if text.startswith("407") or re.search("authentication|username", text, re.IGNORECASE):
        return FailureKind.PROXY_LOGIN, text
    if re.match(r"[134]\d\d\b", text) or "not allowed" in text:
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
    return str(getattr(error, "strerror", None) or error)
