"""Ask the API what one customer holds, under the lock of the key and at its rate."""

from dataclasses import replace

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.errors import ConfigError, QueryError
from telemetron_batch.domain.stops import Stop
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.run.locking import LockWaiter, acquire_locks, locks_of_key
from telemetron_batch.run.requirements import require_can_send
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.session import Session, SessionContext, connect, run_until_stopped, shown_events
from telemetron_batch.storage.clock import Clock, RealClock

_NAME = "query"
"""The name of the run that the lock file shows."""


@translate_system_errors()
def query_customer(
    config: RunConfig, customer: str, *, observer: RunObserver | None = None, clock: Clock | None = None
) -> CustomerHoldings:
    """Return what a customer holds now. Raises BatchError: QueryError if the API gave no answer."""
    clock, observer = clock or RealClock(), observer or RunObserver()
    if config.sandbox:
        what = "a query with --sandbox would find nothing: the embedded sandbox is empty at the start"
        raise ConfigError(what, "start one with telemetron-batch sandbox, and give its URL as --base-url")
    require_can_send(config, clock)
    waiter = LockWaiter.of(replace(config, run_id=_NAME), clock, observer)
    context = SessionContext(config=config, observer=observer, clock=clock, on_event=shown_events(observer))
    with acquire_locks(locks_of_key(config), waiter):
        holdings, stop = clock.run(_fetch(context, customer))
    if holdings is None or holdings.devices is None:
        raise _error(customer, holdings, stop)
    return holdings


async def _fetch(context: SessionContext, customer: str) -> tuple[CustomerHoldings | None, Stop | None]:
    found: list[CustomerHoldings | None] = []

    async def fetch(session: Session) -> None:
        found.append(await session.customer_query.fetch(customer))

    async with connect(context, ApiTarget.of(context.config, None)) as session:
        await run_until_stopped(fetch(session), session.gate.stop_signal)
        return (found[0] if found else None), session.gate.stop_signal.stop


def _error(customer: str, holdings: CustomerHoldings | None, stop: Stop | None) -> QueryError:
    if stop is not None:
        return QueryError.of(stop, f"{customer} was not queried")
    reason = "no answer" if holdings is None else holdings.error
    return QueryError(f"{customer} could not be queried ({reason})", "look at the error, then query it again")
