"""Script backend over Redis; the only module that imports redis.

Every request runs the script once, in order. Every failure is a short LimitBackendError
without the password.
"""

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.rate_limit.script_backend import SCRIPT, LimitBackendError, unreachable

if TYPE_CHECKING:
    from redis.asyncio import Redis

_TIMEOUT_S: Final = 1.0
"""Seconds for connecting and for an answer. In the same network both take about a millisecond."""
_DEFAULT_PORT: Final = 6379
_KEYS: Final = ("state", "departures", "accepted")


class RedisBackend:
    """Uses one Redis, over one connection at a time. Raises ConfigError if the library is missing."""

    def __init__(self, url: Secret, name: str) -> None:
        try:
            import redis.asyncio  # noqa: F401 - an optional dependency
        except ImportError as exc:
            raise ConfigError("--limit-url needs redis", "pip install 'telemetron-batch[redis]'") from exc
        parts = urlsplit(url.reveal())
        self.address = f"Redis at {parts.hostname}:{parts.port or _DEFAULT_PORT}"
        self._url = url
        # The braces put all keys into one slot of a cluster, as a script requires.
        self._keys = [f"telemetron-batch:1:{{{name}}}:{key}" for key in _KEYS]
        self._redis: Redis | None = None
        self._script: Any = None

    async def eval_script(self, request: str) -> str:
        """Run the script with a request and return its answer. Raises LimitBackendError within two seconds."""
        from redis.exceptions import RedisError

        try:
            if self._redis is None:
                self._connect()
            return str(await self._script(keys=self._keys, args=[request]))
        except (RedisError, OSError) as exc:
            await self.close()
            raise LimitBackendError(_error_text(exc)) from exc

    async def ping(self) -> None:
        """Check that Redis answers and accepts the script. Raises ConfigError."""
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
        """Close the connection; the next request opens a new one."""
        connection, self._redis = self._redis, None
        if connection is not None:
            await connection.aclose()

    def _connect(self) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        url = self._url.reveal()
        # redis 5 does not compare the host name with the certificate by default.
        tls_options: dict[str, Any] = {"ssl_check_hostname": True} if url.startswith("rediss:") else {}
        self._redis = Redis.from_url(
            url,
            **tls_options,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._script = self._redis.register_script(SCRIPT)


def _error_text(exc: Exception) -> str:
    """Return the error on one line of at most 200 characters."""
    text = " ".join(str(exc).split())
    return text[:200] or type(exc).__name__
