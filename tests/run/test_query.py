"""What one customer holds, asked under the lock of the key."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.domain.errors import ConfigError, LockedError, QueryError
from telemetron_batch.run.locking import locks_of_key
from telemetron_batch.run.query import query_customer
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.storage.lock import Lock, LockOwner

KEY = "key-of-the-query-0123"


@pytest.fixture
def base_url() -> Iterator[str]:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY) as url:
        fleet.seed([("ann@x.com", "SN-2", "unassign"), ("ann@x.com", "SN-1", "unassign")])
        yield url


def config_of(base_url: str, key: str = KEY, **flags: object) -> RunConfig:
    return resolve((), {"base_url": base_url, **flags}, {"TELEMETRON_API_KEY": key})


def test_a_customer_is_told_with_the_devices(base_url: str) -> None:
    found = query_customer(config_of(base_url), "ann@x.com")
    assert (found.is_known, found.devices) == (True, frozenset({"SN-1", "SN-2"}))


def test_a_customer_that_nobody_knows_has_none(base_url: str) -> None:
    found = query_customer(config_of(base_url), "nobody@x.com")
    assert (found.is_known, found.devices) == (False, frozenset())


def test_a_wrong_key_is_an_error(base_url: str) -> None:
    with pytest.raises(QueryError, match=r"refuses this key .*; ann@x\.com was not queried") as raised:
        query_customer(config_of(base_url, "another-key-0123"), "ann@x.com")
    assert raised.value.exit_code == 4


def test_the_embedded_sandbox_has_nothing_to_ask() -> None:
    with pytest.raises(ConfigError, match="a query with --sandbox would find nothing"):
        query_customer(resolve((), {"sandbox": True}, {}), "ann@x.com")


def test_a_query_takes_its_turn_with_runs_of_the_key(base_url: str) -> None:
    config = config_of(base_url)
    (lock,) = locks_of_key(config)
    Path(lock.file).parent.mkdir(parents=True, exist_ok=True)
    held = Lock.acquire(lock.file, LockOwner(1, "now", "night"), lock.what)
    with pytest.raises(LockedError, match="this base URL and key is in use"):
        query_customer(config, "ann@x.com")
    held.release()
    assert query_customer(config, "ann@x.com").is_known
