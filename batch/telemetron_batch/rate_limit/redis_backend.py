"""The way to a Redis that keeps a shared pace: the only module that knows redis.

Every request is one run of the script, in order; whatever goes wrong is a NoLineError of
few words, in which no password stands.
"""

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.rate_limit.script_backend import SCRIPT, LimitBackendError, unreachable

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SECONDS: Final = 1.0
"""For connecting, and for an answer; in one place with the API they take a millisecond."""
_PORT: Final = 6379
_KEYS: Final = ("state", "departures", "accepted")


class RedisBackend:
    """Asks one Redis, over one connection at a time. Raises ConfigError where the library is missing."""

    def __init__(self, url: Secret, name: str) -> None:
        try:
            import redis.asyncio  # noqa: F401 - an extra
        except ImportError as exc:
            raise ConfigError("--limit-url needs redis", "pip install 'telemetron-batch[redis]'") from exc
        parts = urlsplit(url.reveal())
        self.address = f"Redis at {parts.hostname}:{parts.port or _PORT}"
        self._url = url
        # One slot of a cluster: the script takes all of them.
        self._keys = [f"telemetron-batch:1:{{{name}}}:{key}" for key in _KEYS]
        self._redis: Redis | None = None
        self._script: Any = None

    async def eval_script(self, request: str) -> str:
        """Run the script over a request and give its answer. Raises NoLineError within a second or two."""
        from redis.exceptions import RedisError

        try:
            if self._redis is None:
                self._connect()
            return str(await self._script(keys=self._keys, args=[request]))
        except (RedisError, OSError) as exc:
            await self.close()
            raise LimitBackendError(_error_text(exc)) from exc

    async def ping(self) -> None:
        """Look whether it answers and takes the script. Raises ConfigError."""
        from redis.exceptions import RedisError

        try:
            self._connect()
            assert self._redis is not None  # noqa: S101
            await self._redis.script_load(SCRIPT)
        except (RedisError, OSError) as exc:
            raise unreachable(self.address, LimitBackendError(_error_text(exc))) from exc
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of the connection; the next request makes a new one."""
        known, self._redis = self._redis, None
        if known is not None:
            await known.aclose()

    def _connect(self) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        url = self._url.reveal()
        # Its version 5 does not compare the name of the host with the certificate unless it is told to.
        of_tls: dict[str, Any] = {"ssl_check_hostname": True} if url.startswith("rediss:") else {}
        self._redis = Redis.from_url(
            url,
            **of_tls,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._script = self._redis.register_script(SCRIPT)


def _error_text(exc: Exception) -> str:
    """The error in few words, on one line."""
    text = " ".join(str(exc).split())
    return text[:200] or type(exc).__name__
