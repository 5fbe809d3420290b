"""Check that the API is reachable and accepts the key, by one harmless queryCustomer."""

from telemetron_batch.api import protocol
from telemetron_batch.api.classify import FailureKind, NoResponse, customer_not_found
from telemetron_batch.api.customer_query import PROBE_EMAIL
from telemetron_batch.api.http_client import HttpResult, Post
from telemetron_batch.domain.stops import Advice, Stop, StopReason


async def check_api(post: Post, base_url: str) -> Stop | None:
    """Return None if the API can be used, else what is wrong and what to do."""
    result = await post(protocol.QUERY_PATH, protocol.query_body(PROBE_EMAIL), lambda: None)
    if result.failure is None:
        return None if _is_api_response(result) else _not_the_api(base_url, "its answer is not one of the API's")
    if isinstance(result.failure, NoResponse):
        return _unreachable(result.failure)
    status, text = result.failure.status, result.failure.text
    if customer_not_found(result.failure):
        return None
    if status in (401, 403):
        advice = Advice("check TELEMETRON_API_KEY or --api-key-file; a new key invalidates the old one")
        return Stop(StopReason.KEY_REFUSED, f"{status}: {text}", advice=advice)
    if 300 <= status < 400:
        return Stop(StopReason.REDIRECTED, str(status), advice=Advice("correct --base-url"))
    if status == 429 or status >= 500:
        return Stop(StopReason.API_IN_TROUBLE, f"HTTP {status} ({text})")
    return _not_the_api(base_url, f"HTTP {status}: {text}")


def _is_api_response(result: HttpResult) -> bool:
    try:
        protocol.read_holdings(result.body, PROBE_EMAIL)
    except protocol.UnusableError:
        return False
    return True


def _not_the_api(base_url: str, reason: str) -> Stop:
    advice = Advice("correct --base-url: it ends in /api/ext-v1")
    return Stop(StopReason.NOT_THE_API, f"{base_url} ({reason})", advice=advice)


def _unreachable(failure: NoResponse) -> Stop:
    if failure.how is FailureKind.TLS:
        advice = "check --base-url, the clock of this machine and its trusted certificates"
    elif failure.how is FailureKind.TIMEOUT:
        advice = "check the network, or allow more with --timeout"
    else:
        advice = "check --base-url, the network and any firewall"
    return Stop(StopReason.API_UNREACHABLE, f": {failure.text}", advice=Advice(advice))
