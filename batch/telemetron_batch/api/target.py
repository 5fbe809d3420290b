"""Where requests go: the API, the key to it and the way there."""

from dataclasses import dataclass, field

import httpx2

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage.lock import key_fingerprint, organisation_name


@dataclass(frozen=True, slots=True)
class ApiTarget:
    """The API, the key to it and the way there."""

    base_url: str
    key: Secret
    network: NetworkOptions = field(default_factory=NetworkOptions)
    transport: httpx2.AsyncBaseTransport | None = None
    """Carries the requests; None: connections to the network."""
    organisation: str | None = None

    @classmethod
    def of(cls, config: RunConfig, transport: httpx2.AsyncBaseTransport | None) -> "ApiTarget":
        """Return the API that a configuration names."""
        sending = config.sending
        return cls(sending.base_url, config.api_key or Secret(""), sending.network, transport, config.organisation)

    @property
    def name(self) -> str:
        """A name for this base URL and organisation (by default the key), which does not reveal them."""
        if self.organisation is not None:
            return organisation_name(self.base_url, self.organisation)
        return key_fingerprint(self.base_url, self.key.reveal())
