"""How to reach the API: the proxy, the trusted certificates and the client certificate."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from telemetron_batch.domain.base_url import DEFAULT_PORTS, is_loopback
from telemetron_batch.domain.model import Secret

_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
_EXAMPLE: Final = "http://proxy.example.com:3128"


class ProxyMode(StrEnum):
    """How a proxy is chosen that no URL names."""

    ENV = "env"
    """By HTTPS_PROXY, ALL_PROXY and NO_PROXY; none for a loopback host."""
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkOptions:
    """The options that say how to reach the API."""

    proxy: ProxyMode | Secret = ProxyMode.ENV
    """The URL of the proxy for every host, or how to choose it."""
    ca_file: str | None = None
    """PEM file of the only certificate authorities to trust; None: those of SSL_CERT_FILE or of the system."""
    client_cert: str | None = None
    client_key: str | None = None
    """The key of the client certificate; None: it is in the file of the certificate."""

    @property
    def ca_source(self) -> str:
        """What says which certificate authorities are trusted."""
        if self.ca_file is not None:
            return f"--ca-file {self.ca_file}"
        variable = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
        return "the system's" if variable is None else f"{variable} {os.environ[variable]}"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The passwords of the proxies that may be used."""
        from urllib.request import getproxies  # loads an HTTP client, which --help does not need

        urls = [self.proxy.reveal()] if isinstance(self.proxy, Secret) else [*getproxies().values()]
        return tuple(Secret(password) for url in urls for password in _passwords(url))


@dataclass(frozen=True, slots=True)
class ChosenProxy:
    """The proxy for a base URL."""

    url: Secret
    source: str
    """The option or variable that names it."""

    @property
    def shown(self) -> str:
        """The URL without credentials."""
        return without_credentials(self.url.reveal())

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS instead of HTTP."""
        return self.url.reveal().startswith("socks")


def parse_proxy(text: str) -> ProxyMode | Secret:
    """Parse `env`, `none` or the URL of a proxy. Errors do not quote the text, which may hold a password."""
    word = text.strip()
    return ProxyMode(word.lower()) if word.lower() in {*ProxyMode} else Secret(_proxy_url(word))


def choose_proxy(base_url: str, setting: ProxyMode | Secret) -> ChosenProxy | None:
    """Return the proxy for a base URL. Raises ValueError if it must not be used or is not valid."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(base_url)
    if isinstance(setting, Secret):
        is_here = is_loopback(urlsplit(setting.reveal()).hostname or "")
        if parts.scheme == "http" and not is_here:
            raise ValueError(f"--proxy: that host would see the key unencrypted on the way to {base_url}")
        return ChosenProxy(setting, "--proxy")
    if setting is ProxyMode.NONE or is_loopback(parts.hostname or "") or proxy_bypass(_with_port(parts)):
        return None
    proxies = getproxies()
    for name in (parts.scheme, "all"):
        if proxies.get(name):
            try:
                return ChosenProxy(Secret(_proxy_url(proxies[name], bare="http://")), _variable(name))
            except ValueError as exc:
                raise ValueError(f"{_variable(name)}: {exc}") from exc
    return None


def _with_port(parts: SplitResult) -> str:
    """Return host and port; NO_PROXY may name the default port, which a base URL leaves out."""
    return parts.netloc if parts.port else f"{parts.netloc}:{DEFAULT_PORTS[parts.scheme]}"


def without_credentials(url: str) -> str:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def has_credentials(url: str) -> bool:
    """Return whether a URL contains a user or a password."""
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:
        return "@" in url


def _proxy_url(text: str, bare: str = "") -> str:
    """Return a valid URL of a proxy; `bare` is put before a text without a scheme."""
    url = text if "://" in text else bare + text
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        usable = False
    if not usable or not (url.isascii() and url.isprintable()):
        raise ValueError(f"that is neither env, none nor the URL of a proxy such as {_EXAMPLE}")
    return url


def _passwords(url: str) -> Iterator[str]:
    """Yield the password of a URL, or a user without one, as it is written and as it is sent."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        password = parts.password or parts.username
    except ValueError:
        password = url.partition("@")[0].rpartition(":")[2] if "@" in url else None
    if password:
        yield from {password, unquote(password)}


def _variable(scheme: str) -> str:
    """Return the name of the environment variable that names the proxy for a scheme."""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), names[1])
