"""Where requests go: the API, the key to it and the way there."""

from dataclasses import dataclass, field

import httpx2

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.key_source import KeySource
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage.lock import key_fingerprint, organisation_name


@dataclass(frozen=True, slots=True)
class ApiTarget:
    """The API, the key to it and the way there."""

    base_url: str
    key: Secret
    """The key that identifies the account. After the API has refused it, requests have another one."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    transport: httpx2.AsyncBaseTransport | None = None
    """Carries the requests; None: connections to the network."""
    organisation: str | None = None
    key_source: KeySource | None = None
    """Where the key comes from; None: there is no other key."""

    @classmethod
    def of(cls, config: RunConfig, transport: httpx2.AsyncBaseTransport | None) -> "ApiTarget":
        """Return the API that a configuration names."""
        sending = config.sending
        key = config.api_key or Secret("")
        return cls(sending.base_url, key, sending.network, transport, config.organisation, config.key_source)

    @property
    def current_key(self) -> Secret:
        """The key that was read last."""
        current = None if self.key_source is None else self.key_source.current_key()
        return current or self.key

    @property
    def name(self) -> str:
        """A name for this base URL and organisation (by default the key), which does not reveal them."""
        if self.organisation is not None:
            return organisation_name(self.base_url, self.organisation)
        return key_fingerprint(self.base_url, self.key.reveal())
