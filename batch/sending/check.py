"""Is the API there, and does it take our key? One harmless queryCustomer, and clear words for each failure."""

from batch.model import ExitCode, Stop
from batch.sending import wire
from batch.sending.exchange import Exchange, Post
from batch.sending.verdict import Broken, NoAnswer

NOBODY = "nobody@telemetron-batch.example.com"
"""No customer of anyone's: the API is expected not to find them."""


async def check_api(post: Post, base_url: str) -> Stop | None:
    """None when all is well, else what is wrong and what to do about it."""
    exchange = await post(wire.QUERY_PATH, wire.query_body(NOBODY), lambda: None)
    if exchange.ending is None:
        return _strange(base_url, "its answer is none of the API's") if not _is_ours(exchange) else None
    if isinstance(exchange.ending, NoAnswer):
        return _unreachable(exchange.ending)
    status, text = exchange.ending.status, exchange.ending.text
    if status == 404 and "customer" in exchange.ending.words.lower():
        return None
    if status in (401, 403):
        advice = "check TELEMETRON_API_KEY or --api-key-file; a regenerated key kills the old one"
        return Stop(ExitCode.CLIENT_REFUSED, f"the API refuses this key ({status}: {text})", advice)
    if 300 <= status < 400:
        return Stop(ExitCode.CLIENT_REFUSED, f"{base_url} redirects elsewhere (HTTP {status})", "correct --base-url")
    if status == 429 or status >= 500:
        return Stop(ExitCode.STOPPED, f"the API is there, but answers HTTP {status} ({text})", "try again later")
    return _strange(base_url, f"HTTP {status}: {text}")


def _is_ours(exchange: Exchange) -> bool:
    try:
        wire.read_holdings(exchange.body, NOBODY)
    except wire.UnusableError:
        return False
    return True


def _strange(base_url: str, why: str) -> Stop:
    advice = "correct --base-url: it ends in /api/ext-v1"
    return Stop(ExitCode.CLIENT_REFUSED, f"there is no Telemetron API at {base_url} ({why})", advice)


def _unreachable(ending: NoAnswer) -> Stop:
    if ending.how is Broken.TLS:
        advice = "check --base-url, the clock of this machine and its trusted certificates"
    elif ending.how is Broken.TIMEOUT:
        advice = "check the network, or allow more with --timeout"
    else:
        advice = "check --base-url, the network and any firewall"
    return Stop(ExitCode.STOPPED, f"the API cannot be reached: {ending.text}", advice)
