"""The API that a run sends to: the real one, or the embedded sandbox."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pyarrow.compute as pc

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.actions import ACTIONS
from telemetron_batch.domain.model import Secret
from telemetron_batch.journal.connection import require_ours
from telemetron_batch.journal.journal import Journal
from telemetron_batch.sending.session import SendContext


@contextmanager
def open_api(send_context: SendContext, transport: httpx2.AsyncBaseTransport | None) -> Iterator[ApiTarget]:
    """Yield the API to send to; with `--sandbox` an embedded one, seeded with the devices of the input."""
    config = send_context.config
    if not config.sandbox:
        yield ApiTarget.of(config, transport)
        return
    # Only a run in the sandbox needs a web server.
    from telemetron_batch.sandbox.server import serve_in_thread
    from telemetron_batch.sandbox.state import SandboxState

    db = config.folder / "sandbox.sqlite3"
    require_ours(db)
    with SandboxState(db) as fleet:
        fleet.seed(_valid_rows(send_context.journal))
        with serve_in_thread(fleet) as base_url:
            yield ApiTarget(base_url, Secret("sandbox"))


def _valid_rows(journal: Journal) -> Iterator[tuple[str, str, str]]:
    """Yield customer, device and action of each valid row."""
    for _, keys in journal.key_columns():
        valid = keys.filter(pc.equal(keys["problem"], 0))
        columns = (valid[name].to_pylist() for name in ("customerEmail", "deviceIdentifier", "action"))
        for customer, device, action in zip(*columns, strict=True):
            yield customer, device, str(ACTIONS[action])
