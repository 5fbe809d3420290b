"""The options of `serve` that no run has: where it listens, who may come in, and its limits."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

Network = IPv4Network | IPv6Network

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8780
DEFAULT_MAX_UPLOAD: Final = 256 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """Where the server listens, who may come in, and its limits."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """0: any free port."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    """Whether a proxy in front of the server ends TLS."""
    users: Path | None = None
    """The file of the users; None: a token or the proxy says who comes in."""
    user_header: str | None = None
    """The header in which a trusted proxy names the user it has signed in."""
    trusted_proxies: tuple[Network, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    """Further host names by which browsers may address the server."""
    max_upload: int = DEFAULT_MAX_UPLOAD
    """Bytes of all files of one upload."""
    upload_timeout: float = 600.0
    """Seconds for one upload."""
    idle_timeout: float = 3600.0
    """Seconds after its last request when a session ends."""
    session_timeout: float = 43_200.0
    """Seconds after sign-in when a session ends."""
    verbose: bool = field(default=False)

    @property
    def has_token(self) -> bool:
        """Whether one token lets its holder in, because there are no users."""
        return self.users is None and self.user_header is None

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach the server by https."""
        return self.tls_cert is not None or self.behind_proxy
