"""What the headers of a response ask of our pace: how long to wait, what quota is left.

Header text is written by strangers: whatever is malformed, inconsistent or past is
ignored, and nothing here raises. It refuses to know clocks, status codes and what is
done about a hint; a hint can only slow us, never speed us up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

_DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
"""Not `str.isdigit`: that is true of "²", which `int` refuses."""
_RESET: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", re.ASCII)
_EPOCH: Final = 10**9
"""A larger Retry-After is no wait of 32 years but a point in time, sent by mistake."""
_LONGEST_HEADER: Final = 1_000
_MOST_POLICIES: Final = 20

_STRING: Final = r'"(?:[^"\\]|\\["\\])*"'
_WORD: Final = r"[A-Za-z*][\w:/!#$%&'*+.^`|~-]*"
_BARE: Final = rf"(?:{_STRING}|:[^:]*:|\?[01]|-?[0-9]+(?:\.[0-9]+)?|{_WORD})"
_PARAMETER: Final = re.compile(rf";[ ]*([a-z*][a-z0-9_.*-]*)(?:=({_BARE}))?", re.ASCII)
_MEMBER: Final = re.compile(
    rf"[ \t]*({_STRING}|{_WORD})((?:;[ ]*[a-z*][a-z0-9_.*-]*(?:={_BARE})?)*)[ \t]*(?:,|$)", re.ASCII
)
"""A member of an RFC 9651 list with its parameters, as the RateLimit draft uses it."""

_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?", re.ASCII)
_IN_ONE: Final = re.compile(r"\b(limit|remaining|reset)[ ]*=[ ]*([0-9]{1,13})", re.ASCII)
"""An early draft's single header: `limit=10, remaining=0, reset=2`."""


class Quota(NamedTuple):
    """Attempts left, and the seconds until the quota is renewed."""

    left: int
    resets_in: float


@dataclass(frozen=True, slots=True)
class ServerHint:
    """What a response asks of us."""

    wait: float | None = None
    """Seconds to wait if this response is a refusal; None when it does not say."""
    quotas: tuple[Quota, ...] = ()
    """What is left of each quota; all of them hold."""
    retry_after: bool = False
    """The wait was asked for with a Retry-After, which makes a refusal of a 503."""


_NOTHING: Final = ServerHint()
_RELEVANT_HEADERS: Final = frozenset(
    {"retry-after", "ratelimit", "ratelimit-policy", "ratelimit-reset", "x-ratelimit-reset"}
)


def read_hints(headers: Mapping[str, str], wall_now: float) -> ServerHint:
    """The hint in a response's headers, whose names are in lower case.

    Retry-After wins over RateLimit, and that over the older X-RateLimit and RateLimit
    triples. Points in time are compared with the response's own `Date`, since our clock
    may be wrong; `wall_now`, in seconds since the epoch, stands in where there is none.
    """
    if _RELEVANT_HEADERS.isdisjoint(headers):
        return _NOTHING  # as mostly
    server_now = _date(headers.get("date", ""))
    server_now = wall_now if server_now is None else server_now
    wait = _retry_after(headers.get("retry-after", ""), server_now)
    if wait is not None:
        return ServerHint(wait, retry_after=True)
    quotas = _quotas(headers.get("ratelimit", ""), headers.get("ratelimit-policy", ""))
    if quotas:
        spent = [quota.resets_in for quota in quotas if quota.left == 0]
        return ServerHint(max(spent, default=None), quotas)
    in_one = {f"ratelimit-{name}": number for name, number in _IN_ONE.findall(headers.get("ratelimit", "").lower())}
    for told, prefix in ((headers, "x-ratelimit-"), (headers, "ratelimit-"), (in_one, "ratelimit-")):
        hint = _limit_remaining_reset(told, prefix, server_now)
        if hint is not None:
            return hint
    return _NOTHING


def _retry_after(text: str, server_now: float) -> float | None:
    text = text.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        return max(0.0, seconds - server_now) if seconds > _EPOCH else seconds
    at = _date(text)
    return None if at is None else max(0.0, at - server_now)


def _date(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date; without a zone it means UTC."""
    if not text or len(text) > _LONGEST_HEADER:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _quotas(limits: str, policies: str) -> tuple[Quota, ...]:
    """What the two fields of the draft say; a policy without a limit is a quota still whole."""
    rules = _members(policies)
    foreign = {name for name, rule in rules.items() if rule.get("qu", '"requests"') != '"requests"'}
    said = _members(limits)
    found = [
        _quota(limit.get("r", ""), limit.get("t", rules.get(name, {}).get("w", "")))
        for name, limit in said.items()
        if name not in foreign
    ]
    found += [
        _quota(rule.get("q", ""), rule.get("w", ""))
        for name, rule in rules.items()
        if name not in foreign and name not in said
    ]
    return tuple(quota for quota in found if quota is not None)


def _quota(left: str, renewed_in: str) -> Quota | None:
    if _DIGITS.fullmatch(left) and _DIGITS.fullmatch(renewed_in):
        return Quota(int(left), float(renewed_in))
    return None


def _members(text: str) -> dict[str, dict[str, str]]:
    """The list's members by name; a list that is malformed anywhere is no list, as its RFC says."""
    members: dict[str, dict[str, str]] = {}
    place = 0
    if len(text) > _LONGEST_HEADER:
        return {}
    while place < len(text):
        match = _MEMBER.match(text, place)
        if match is None or len(members) == _MOST_POLICIES:
            return {}
        members[match[1]] = {key: value or "" for key, value in _PARAMETER.findall(match[2])}
        place = match.end()
    return members


def _limit_remaining_reset(headers: Mapping[str, str], prefix: str, server_now: float) -> ServerHint | None:
    """The older Limit, Remaining and Reset; None where they are missing or contradict each other."""
    renewed_in = _renewal(headers.get(prefix + "reset", ""), server_now)
    if renewed_in is None:
        return None
    remaining = headers.get(prefix + "remaining", "").strip()
    if not remaining:
        return ServerHint(renewed_in)
    # Drafts append the policy: "100, 100;w=60".
    limit = headers.get(prefix + "limit", "").split(",")[0].split(";")[0].strip()
    if not _DIGITS.fullmatch(remaining) or (_DIGITS.fullmatch(limit) and int(remaining) > int(limit)):
        return None
    left = int(remaining)
    return ServerHint(renewed_in if left == 0 else None, (Quota(left, renewed_in),))


def _renewal(text: str, server_now: float) -> float | None:
    """Seconds until a Reset, which is a number of seconds or a point in time, in s or ms."""
    text = text.strip()
    if not _RESET.fullmatch(text):
        return None
    number = float(text)
    if number < 10**6:
        return number
    if 10**9 <= number < 10**11:
        at = number
    elif number >= 10**12:
        at = number / 1000
    else:
        return None
    return at - server_now if at >= server_now else None
