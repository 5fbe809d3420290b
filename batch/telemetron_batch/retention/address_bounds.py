"""Decide whether a text that is an address stands for itself, or is part of another person's address.

Pure functions of the text around it. Nearly every sign may belong to the local part of an address: in `o'neil@x.com`
the address `neil@x.com` is part of another one, in `'neil@x.com'` it is quoted.
"""

import html
import re
import unicodedata
from enum import Enum
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from telemetron_batch.input.emails import MAX_EMAIL_LENGTH, are_emails

_SIGNS: Final = frozenset("!#$%&*+/=?^_`{|}~-.'")
"""What the local part of an address may hold beside letters and digits."""
_USUAL_SIGNS: Final = frozenset(".+-_'")
_WRAPPINGS: Final = frozenset("'`=|{/&?*~")
"""Signs that more likely wrap an address at the beginning of a word than begin one."""
_CLOSING: Final = {"{": "}"}
_CELL_STARTS: Final = frozenset(',;\t\n\r"\0>')
_CELL_ENDS: Final = frozenset(',;\t\n\r"\0<')
_FILE_NAME: Final = re.compile(r"(?:-[A-Za-z0-9-]*)?\.(?:csv|tsv|txt|xlsx?|zip|gz|jsonl|parquet)\b")
"""The rest of the name of a file that begins with an address."""
_ASSIGNMENT: Final = re.compile(r"(?:.*[?&;])?[a-z_]*(?:mail|customer|owner|user|to|from|cc)", re.IGNORECASE)
"""The name of a field, before `=`."""
_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});")
_JSON_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|[nrt])")
_URL_SIGNS: Final = str.maketrans("=&?/#", "     ")
"""Signs that divide a URL: within an address that is percent-encoded, they are percent-encoded too."""


class Verdict(Enum):
    """What an occurrence of an address is."""

    ITSELF = "the address"
    OTHER = "part of another person's address"
    DOUBTFUL = "may be another person's address"


def judge(before: str, written: str, after: str, address: str) -> Verdict:
    """Return what an occurrence is: `written` as it is, `address` as it is meant, with the text before and after."""
    is_percent_encoded = "%40" in written
    raw = _judge(before, after, address)
    decoded = _judge(_decoded(before, in_url=is_percent_encoded), _decoded(after), address)
    # A percent sign may also be a letter of an address that is not encoded.
    is_unclear = not is_percent_encoded and bool(_PERCENT.search(_run_before(before)))
    if not is_unclear or raw is decoded:
        return decoded
    return Verdict.OTHER if Verdict.OTHER in (raw, decoded) and _is_cell(before, after) else Verdict.DOUBTFUL


def _decoded(text: str, *, in_url: bool = False) -> str:
    """Return a text with the escapes of pages, JSON and links resolved."""
    text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    text = _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else " ", text)
    if in_url:
        text = text.translate(_URL_SIGNS)
    return _PERCENT.sub(lambda found: unquote_to_bytes(found[0]).decode("utf-8", "replace"), text)


def _judge(before: str, after: str, address: str) -> Verdict:
    left, right = _run_before(before), _run_after(after)
    if not left and not right:
        return Verdict.ITSELF
    goes_on_left, goes_on_right = _larger_addresses(left, address, right)
    is_cell = _is_cell(before, after)
    if goes_on_right:
        return Verdict.OTHER if is_cell or _is_letter(right[0]) else Verdict.DOUBTFUL
    return _judge_left(left, after, is_cell=is_cell) if goes_on_left else Verdict.ITSELF


def _judge_left(left: str, after: str, *, is_cell: bool) -> Verdict:
    """Return what an occurrence is after signs and letters with which it would be another address."""
    head = left.rstrip("".join(_SIGNS))
    signs = left[len(head) :]
    is_apart = not head or len(signs) > 1
    is_wrapped = signs and is_apart and after.startswith(_CLOSING.get(signs[-1], signs[-1]))
    is_in_path = signs == "/" and (_FILE_NAME.match(after) or after.startswith("/"))
    if is_wrapped or is_in_path:
        return Verdict.ITSELF
    if is_cell:
        return Verdict.OTHER if head and not head.startswith("/") else Verdict.DOUBTFUL
    if not head:
        return Verdict.ITSELF if _WRAPPINGS.issuperset(signs) else Verdict.DOUBTFUL
    if signs == "=" and _ASSIGNMENT.fullmatch(head):
        return Verdict.ITSELF
    return Verdict.OTHER if not signs or signs in _USUAL_SIGNS else Verdict.DOUBTFUL


def _run_before(text: str) -> str:
    """Return the end of a text as far as it may belong to the local part of an address."""
    start = len(text)
    while start and (text[start - 1] in _SIGNS or _is_letter(text[start - 1])):
        start -= 1
    return text[start:]


def _run_after(text: str) -> str:
    """Return the beginning of a text as far as it may belong to a domain."""
    if _FILE_NAME.match(text):
        return ""
    end = 0
    while end < len(text) and (text[end] in "-." or _is_letter(text[end])):
        end += 1
    return text[:end].rstrip("-.")


def _is_letter(one: str) -> bool:
    return unicodedata.category(one)[0] in "LM" or unicodedata.category(one) == "Nd"


def _is_cell(before: str, after: str) -> bool:
    """Return whether the run around an occurrence is all of a cell."""
    first = before[: len(before) - len(_run_before(before))]
    last = after[len(_run_after(after)) :]
    return (not first or first[-1] in _CELL_STARTS) and (not last or last[0] in _CELL_ENDS)


@lru_cache(maxsize=1 << 14)
def _larger_addresses(left: str, address: str, right: str) -> tuple[bool, bool]:
    """Return whether there are larger addresses that begin before an address, and such that end behind it."""
    ends = [right[:end] for end in range(1, len(right) + 1) if right[end : end + 1] in ("", ".")]
    starts = [left[start:] for start in range(max(0, len(left) - MAX_EMAIL_LENGTH), len(left))]
    longer = [*((start, "") for start in starts), *((start, end) for start in ("", *starts) for end in ends)]
    if not longer:
        return False, False
    found = are_emails(pa.array([f"{start}{address}{end}" for start, end in longer], pa.string()))
    valid = [ends for ends, is_email in zip(longer, found, strict=True) if is_email]
    return any(start for start, _ in valid), any(end for _, end in valid)
