"""Read rate limit headers: how long to wait and which quotas are left.

Headers are untrusted. Malformed, inconsistent and past values are ignored, and nothing here
raises. A hint can only slow attempts down, never speed them up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

_DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
"""Used instead of `str.isdigit`, which accepts "²" although `int` refuses it."""
_RESET: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", re.ASCII)
_MIN_TIMESTAMP: Final = 10**9
"""Seconds. A larger Retry-After is a timestamp sent by mistake, not a wait of 32 years."""
_MAX_HEADER_LENGTH: Final = 1_000
"""Characters of a header that is read. No valid one is longer."""
_MAX_POLICIES: Final = 20
"""Policies in one header. Longer lists are ignored."""

_STRING: Final = r'"(?:[^"\\]|\\["\\])*"'
_WORD: Final = r"[A-Za-z*][\w:/!#$%&'*+.^`|~-]*"
_BARE: Final = rf"(?:{_STRING}|:[^:]*:|\?[01]|-?[0-9]+(?:\.[0-9]+)?|{_WORD})"
_PARAMETER: Final = re.compile(rf";[ ]*([a-z*][a-z0-9_.*-]*)(?:=({_BARE}))?", re.ASCII)
_MEMBER: Final = re.compile(
    rf"[ \t]*({_STRING}|{_WORD})((?:;[ ]*[a-z*][a-z0-9_.*-]*(?:={_BARE})?)*)[ \t]*(?:,|$)", re.ASCII
)
"""One member of an RFC 9651 list with its parameters, as the RateLimit draft uses it."""

_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?", re.ASCII)
_SINGLE_HEADER: Final = re.compile(r"\b(limit|remaining|reset)[ ]*=[ ]*([0-9]{1,13})", re.ASCII)
"""The single header of an early draft: `limit=10, remaining=0, reset=2`."""


class Quota(NamedTuple):
    """The attempts left and the seconds until the quota is renewed."""

    left: int
    resets_in: float


@dataclass(frozen=True, slots=True)
class ServerHint:
    """The rate limit information of one response."""

    wait: float | None = None
    """Seconds to wait if this response is a refusal; None if it does not say."""
    quotas: tuple[Quota, ...] = ()
    """The quotas; each of them applies."""
    retry_after: bool = False
    """Whether the wait comes from a Retry-After header. With it, a 503 is a refusal for the rate."""


_NO_HINT: Final = ServerHint()
_RELEVANT_HEADERS: Final = frozenset(
    {"retry-after", "ratelimit", "ratelimit-policy", "ratelimit-reset", "x-ratelimit-reset"}
)


def read_hints(headers: Mapping[str, str], wall_now: float) -> ServerHint:
    """Return the hint in a response's headers; their names must be in lower case.

    Retry-After takes precedence over RateLimit, and RateLimit over the older X-RateLimit and
    RateLimit triples. Timestamps are compared with the response's own `Date`, because the
    local clock may be wrong. Without a `Date`, `wall_now` (seconds since the epoch) is used.
    """
    if _RELEVANT_HEADERS.isdisjoint(headers):
        return _NO_HINT  # the usual case
    server_now = _date(headers.get("date", ""))
    server_now = wall_now if server_now is None else server_now
    wait = _retry_after(headers.get("retry-after", ""), server_now)
    if wait is not None:
        return ServerHint(wait, retry_after=True)
    quotas = _quotas(headers.get("ratelimit", ""), headers.get("ratelimit-policy", ""))
    if quotas:
        spent = [quota.resets_in for quota in quotas if quota.left == 0]
        return ServerHint(max(spent, default=None), quotas)
    single = headers.get("ratelimit", "").lower()
    split = {f"ratelimit-{name}": number for name, number in _SINGLE_HEADER.findall(single)}
    for fields, prefix in ((headers, "x-ratelimit-"), (headers, "ratelimit-"), (split, "ratelimit-")):
        hint = _limit_remaining_reset(fields, prefix, server_now)
        if hint is not None:
            return hint
    return _NO_HINT


def _retry_after(text: str, server_now: float) -> float | None:
    text = text.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        return max(0.0, seconds - server_now) if seconds > _MIN_TIMESTAMP else seconds
    at = _date(text)
    return None if at is None else max(0.0, at - server_now)


def _date(text: str) -> float | None:
    """Return an HTTP date in seconds since the epoch; without a zone it is UTC."""
    if not text or len(text) > _MAX_HEADER_LENGTH:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _quotas(limits: str, policies: str) -> tuple[Quota, ...]:
    """Return the quotas of the draft's two fields; a policy without a limit is an unused quota."""
    policy_by_name = _members(policies)
    limit_by_name = _members(limits)
    other_units = {name for name, policy in policy_by_name.items() if policy.get("qu", '"requests"') != '"requests"'}
    quotas = [
        _quota(limit.get("r", ""), limit.get("t", policy_by_name.get(name, {}).get("w", "")))
        for name, limit in limit_by_name.items()
        if name not in other_units
    ]
    quotas += [
        _quota(policy.get("q", ""), policy.get("w", ""))
        for name, policy in policy_by_name.items()
        if name not in other_units and name not in limit_by_name
    ]
    return tuple(quota for quota in quotas if quota is not None)


def _quota(left: str, resets_in: str) -> Quota | None:
    if _DIGITS.fullmatch(left) and _DIGITS.fullmatch(resets_in):
        return Quota(int(left), float(resets_in))
    return None


def _members(text: str) -> dict[str, dict[str, str]]:
    """Return the list's members by name; a list with any malformed part is ignored, as its RFC demands."""
    members: dict[str, dict[str, str]] = {}
    position = 0
    if len(text) > _MAX_HEADER_LENGTH:
        return {}
    while position < len(text):
        match = _MEMBER.match(text, position)
        if match is None or len(members) == _MAX_POLICIES:
            return {}
        members[match[1]] = {key: value or "" for key, value in _PARAMETER.findall(match[2])}
        position = match.end()
    return members


def _limit_remaining_reset(headers: Mapping[str, str], prefix: str, server_now: float) -> ServerHint | None:
    """Return the hint of the older Limit, Remaining and Reset; None if they are missing or inconsistent."""
    resets_in = _resets_in(headers.get(prefix + "reset", ""), server_now)
    if resets_in is None:
        return None
    remaining = headers.get(prefix + "remaining", "").strip()
    if not remaining:
        return ServerHint(resets_in)
    # Some drafts append the policy: "100, 100;w=60".
    limit = headers.get(prefix + "limit", "").split(",")[0].split(";")[0].strip()
    if not _DIGITS.fullmatch(remaining) or (_DIGITS.fullmatch(limit) and int(remaining) > int(limit)):
        return None
    left = int(remaining)
    return ServerHint(resets_in if left == 0 else None, (Quota(left, resets_in),))


def _resets_in(text: str, server_now: float) -> float | None:
    """Return the seconds until a Reset, given as seconds or as a timestamp in s or ms; None if it is neither."""
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
