"""Where a request comes from, behind proxies that are trusted to say so."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from starlette.requests import HTTPConnection

from telemetron_batch.web.options import Network, ServeOptions

_THIS_HOST: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_UNKNOWN: Final = "unknown"


def is_trusted(connection: HTTPConnection, proxies: Sequence[Network]) -> bool:
    """Return whether a request comes directly from one of the trusted proxies."""
    return _is_in(_direct_peer(connection), proxies)


def peer_address(connection: HTTPConnection, options: ServeOptions) -> str:
    """Return the address of the browser: the last in X-Forwarded-For that is no trusted proxy.

    The header counts only if a trusted proxy sends it; a proxy on this host is trusted with --behind-proxy.
    """
    peer = _direct_peer(connection)
    proxies = options.trusted_proxies or (_THIS_HOST if options.behind_proxy else ())
    if not _is_in(peer, proxies):
        return peer
    hops = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
    for hop in reversed([hop.strip() for hop in hops]):
        if not _is_address(hop):
            return peer
        peer = hop
        if not _is_in(hop, proxies):
            break
    return peer


def _direct_peer(connection: HTTPConnection) -> str:
    return _UNKNOWN if connection.client is None else connection.client.host


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(peer: str, networks: Sequence[Network]) -> bool:
    if not _is_address(peer):
        return False
    address = ip_address(peer)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
