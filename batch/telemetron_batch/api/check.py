"""Check that the API is reachable and accepts the key, by one harmless queryCustomer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from telemetron_batch.api import protocol
from telemetron_batch.api.classify import PROXY_STOPS, ErrorResponse, FailureKind, NoUsableResponse, customer_not_found
from telemetron_batch.api.customer_query import PROBE_EMAIL
from telemetron_batch.api.http_client import HttpResult, Post
from telemetron_batch.domain.stops import Advice, Stop, StopReason


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """What a check found, and how the request travelled."""

    stop: Stop | None
    """What is wrong and what to do; None if the API can be used."""
    seconds: Mapping[str, float]
    """Seconds of each step that was reached: `dns`, `connect`, `tls`, `answer`."""
    proxy: str | None
    """The proxy in use, without credentials."""
    trust: str | None
    """The certificate authorities that are trusted; None without TLS."""


async def ask_harmlessly(post: Post) -> HttpResult:
    """Ask for a customer that does not exist, again if the key was replaced; nothing is changed."""
    result = await post(protocol.QUERY_PATH, protocol.query_body(PROBE_EMAIL), lambda: None)
    if isinstance(result.failure, ErrorResponse) and result.failure.is_key_replaced:
        return await post(protocol.QUERY_PATH, protocol.query_body(PROBE_EMAIL), lambda: None)
    return result


def stop_of(result: HttpResult, base_url: str) -> Stop | None:
    """Return None if the API can be used, else what is wrong and what to do."""
    if result.failure is None:
        return None if _is_api_response(result) else _not_the_api(base_url, "its answer is not one of the API's")
    if isinstance(result.failure, NoUsableResponse):
        return _unreachable(result.failure)
    status, text = result.failure.status, result.failure.text
    if customer_not_found(result.failure):
        return None
    if status == 407:
        return Stop(StopReason.PROXY_LOGIN, f"{status}: {text}")
    if status in (401, 403):
        advice = Advice(
            "check TELEMETRON_API_KEY, --api-key-file or --api-key-command; a new key invalidates the old one"
        )
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


def _unreachable(failure: NoUsableResponse) -> Stop:
    if failure.how in PROXY_STOPS:
        return Stop(PROXY_STOPS[failure.how], failure.text)
    return Stop(StopReason.API_UNREACHABLE, f": {failure.text}", advice=Advice(_ADVICE.get(failure.how, _OTHERWISE)))


_OTHERWISE: Final = "check --base-url, the network and any firewall"
_ADVICE: Final[Mapping[FailureKind, str]] = {
    FailureKind.NAME: "check the host of --base-url and the DNS server; behind a proxy, set HTTPS_PROXY or --proxy",
    FailureKind.CONNECT_TIMEOUT: "check the network and any firewall; behind a proxy, set HTTPS_PROXY or --proxy",
    FailureKind.PROXY: "check --proxy, or HTTPS_PROXY and NO_PROXY",
    FailureKind.UNTRUSTED: "your network re-signs TLS; give its CA with --ca-file",
    FailureKind.TLS: "check --base-url, the clock of this machine and its trusted certificates; "
    "if the API requires a client certificate, give --client-cert",
    FailureKind.TIMEOUT: "check the network, or allow more with --timeout",
}
