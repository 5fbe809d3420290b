"""Base URLs: the spelling that requests are sent to, and one identity for each API.

Looks nothing up: whether two names lead to the same machine is not asked, but for loopback hosts.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

import idna

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LOOPBACK: Final = "localhost"
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")


def normalised(base_url: str) -> str:
    """Return the spelling of a base URL that requests are sent to; the host stays the one that was named.

    Scheme and host are lower case, an international host name is in its ASCII form, the scheme's own
    port is left out, and the path is written the shortest way. Raises ValueError for what is no URL.
    """
    parts = urlsplit(base_url)
    return _url(parts, _ascii_host(parts))


def api_identity(base_url: str) -> str:
    """Return one text for all base URLs that mean the same API: equal texts, the same API.

    These differences do not count:

    - letter case of scheme and host, but that of the path does
    - the scheme's own port, given or not
    - slashes at the end, repeated slashes, `/./` and `/../` in the path
    - percent-encoding of letters, digits and `-._~`, and the letter case of other percent-encoding
    - a dot at the end of the host
    - an international host name or its ASCII form (`xn--...`), an IPv6 address in short or at length
    - which loopback host: `localhost`, any of 127.0.0.0/8 and `[::1]` are one

    Anything that is no URL, such as `sandbox`, is its own identity.
    """
    try:
        parts = urlsplit(base_url)
        host = _ascii_host(parts).removesuffix(".")
        return _url(parts, _LOOPBACK if is_loopback(host) else _address(host)) if host else base_url
    except ValueError:
        return base_url


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever its network: by its name or its address."""
    host = host.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == _LOOPBACK
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _url(parts: SplitResult, host: str) -> str:
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{_shortest(parts.path)}"


def _ascii_host(parts: SplitResult) -> str:
    """Return the host in lower case and in ASCII, without the brackets of an IPv6 address."""
    host = _decoded(parts.hostname or "").lower()
    # By the same rules as the libraries that send: those of Python's own codec are older and mean other hosts.
    return host if host.isascii() else idna.encode(host, uts46=True).decode()


def _address(host: str) -> str:
    """Return an IP address in its shortest form; any other host as it is."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _shortest(path: str) -> str:
    """Return a path without empty and relative segments, and without needless percent-encoding."""
    segments: list[str] = []
    for segment in _decoded(path).split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "".join(f"/{segment}" for segment in segments)


def _decoded(text: str) -> str:
    """Decode what need not be percent-encoded; write the rest with capital letters."""

    def once(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if _UNRESERVED.fullmatch(character) else found[0].upper()

    return re.sub("%([0-9A-Fa-f]{2})", once, text)
