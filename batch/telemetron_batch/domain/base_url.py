"""Base URLs: the normalized spelling that requests use, and one identity for each API.

Makes no DNS query: two host names are two APIs, except that all loopback hosts are one.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LOOPBACK: Final = "localhost"
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")


def normalized(base_url: str) -> str:
    """Return the normalized spelling of a base URL, which requests use. The host stays the one that was given.

    Scheme and host are in lower case, an international host name is in its ASCII form, the default port
    is removed, and the path is as short as possible. Raises ValueError for an invalid URL.
    """
    parts = urlsplit(base_url)
    return _join(parts, _ascii_host(parts))


def api_identity(base_url: str) -> str:
    """Return a text that is equal for all base URLs of the same API.

    These differences do not count:

    - letter case of scheme and host (the case of the path does count)
    - the default port of the scheme, given or not
    - slashes at the end, repeated slashes, `/./` and `/../` in the path
    - percent-encoding of letters, digits and `-._~`, and the letter case of other percent-encoding
    - a dot at the end of the host
    - an international host name or its ASCII form (`xn--...`), a short or long spelling of an IPv6 address
    - which loopback host it is: `localhost`, all of 127.0.0.0/8 and `[::1]` are one

    A text that is no URL, such as `sandbox`, is its own identity.
    """
    try:
        parts = urlsplit(base_url)
        host = _ascii_host(parts).removesuffix(".")
        return _join(parts, _LOOPBACK if is_loopback(host) else _shortest_ip(host)) if host else base_url
    except ValueError:
        return base_url


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback address of this machine."""
    host = host.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == _LOOPBACK
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _join(parts: SplitResult, host: str) -> str:
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{_normalize_path(parts.path)}"


def _ascii_host(parts: SplitResult) -> str:
    """Return the host in lower case and in ASCII, without the brackets of an IPv6 address."""
    host = _decode_unreserved(parts.hostname or "").lower()
    # The HTTP library uses the same rules; Python's own codec follows older ones that can name another host.
    if host.isascii():
        return host
    import idna  # its tables are large, and most hosts are ASCII

    return idna.encode(host, uts46=True).decode()


def _shortest_ip(host: str) -> str:
    """Return an IP address in its shortest form, and any other host unchanged."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _normalize_path(path: str) -> str:
    """Return a path without empty and relative segments and without unnecessary percent-encoding."""
    segments: list[str] = []
    for segment in _decode_unreserved(path).split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "".join(f"/{segment}" for segment in segments)


def _decode_unreserved(text: str) -> str:
    """Decode percent-encoded characters that need no encoding; write other escapes in capital letters."""

    def decode(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if _UNRESERVED.fullmatch(character) else found[0].upper()

    return re.sub("%([0-9A-Fa-f]{2})", decode, text)
