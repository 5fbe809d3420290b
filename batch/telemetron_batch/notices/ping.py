"""Get the URL of a dead-man's switch, with a client of its own: no API key, no client certificate, no redirects."""

import ssl
from base64 import b64encode
from dataclasses import replace
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import httpx2

from telemetron_batch import __version__
from telemetron_batch.api.tls import tls_context
from telemetron_batch.config.network import NetworkOptions, choose_proxy
from telemetron_batch.domain.model import Secret

TIMEOUT_S: Final = 4.0
"""Seconds for each step of a ping, so that the start and the end together fit into the time of all notices."""


def send_ping(
    url: Secret, suffix: str, body: str, network: NetworkOptions, transport: httpx2.BaseTransport | None = None
) -> str | None:
    """Get a URL with a suffix behind its path. Return why it was not reached; None if it was.

    The answer is not read. A redirect is a problem: it is not followed.
    """
    parts = urlsplit(url.reveal())
    try:
        with transport or _open_transport(parts, network) as opened:
            response = opened.handle_request(_request(parts, suffix, body))
            response.close()
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, OSError, ValueError) as exc:
        return f"{' '.join(str(exc).split()) or type(exc).__name__}"
    if response.is_redirect:
        return f"it redirects elsewhere (HTTP {response.status_code}), which is not followed"
    return None if response.is_success else f"it answers HTTP {response.status_code}"


def ping_url(parts: SplitResult, suffix: str) -> str:
    """Return a URL with a suffix behind its path, before its query, and without credentials."""
    path = f"{parts.path.rstrip('/')}{suffix}" if suffix else parts.path
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path).geturl()


def _request(parts: SplitResult, suffix: str, body: str) -> httpx2.Request:
    headers = {"user-agent": f"telemetron-batch/{__version__}"}
    if body:
        headers["content-type"] = "text/plain"
    if parts.username or parts.password:
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers["authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)
    target = ping_url(parts, suffix)
    return httpx2.Request("GET", target, headers=headers, content=body.encode(), extensions={"timeout": timeout})


def _open_transport(parts: SplitResult, network: NetworkOptions) -> httpx2.HTTPTransport:
    """Return connections by the proxy that the options or the environment name."""
    context, url = _tls_context(network), _proxy_url(parts, network)
    is_secure = url is not None and url.startswith("https:")
    proxy = None if url is None else httpx2.Proxy(url, ssl_context=context if is_secure else None)
    return httpx2.HTTPTransport(verify=context, proxy=proxy, trust_env=False)


def _proxy_url(parts: SplitResult, network: NetworkOptions) -> str | None:
    if isinstance(network.proxy, Secret):
        return network.proxy.reveal()
    chosen = choose_proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", network.proxy)
    return None if chosen is None else chosen.url.reveal()


def _tls_context(network: NetworkOptions) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those of `--ca-file`: the URL is not the API's."""
    context = tls_context(replace(network, ca_file=None, client_cert=None, client_key=None))
    if network.ca_file is not None:
        context.load_verify_locations(network.ca_file)
    return context
