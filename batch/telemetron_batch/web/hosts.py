"""The names by which browsers may address the server."""

import re
import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from telemetron_batch.domain.base_url import is_loopback
from telemetron_batch.web.options import ServeOptions

_HOST: Final = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def is_local(options: ServeOptions) -> bool:
    """Return whether only programs of this machine can reach the server."""
    return is_loopback(options.host) and not options.behind_proxy


def host_names(options: ServeOptions) -> frozenset[str]:
    """Return the names of this server, beside addresses."""
    own = () if is_local(options) else (socket.gethostname(), options.host)
    return frozenset(name.lower().rstrip(".") for name in (*own, *options.allowed_hosts))


def parse_host_name(text: str) -> str:
    """Return a host name in lower case. Raises ValueError if it is none."""
    name = text.strip().lower()
    if ":" in name or not _HOST.fullmatch(name):
        raise ValueError(f"{text!r} is no host name such as desk.example.com")
    return name


def is_allowed_host(header: str, names: frozenset[str], *, is_local: bool) -> bool:
    """Return whether a Host header names this server.

    A page of another site can make a browser connect here under a name of its own, but not under an address. So any
    address is accepted, except where only this machine can reach the server: there only loopback.
    """
    if not _HOST.fullmatch(header):
        return False
    host = (urlsplit(f"//{header}").hostname or "").rstrip(".")
    return host in names or is_loopback(host) or (not is_local and _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
