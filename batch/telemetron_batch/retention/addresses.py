"""Find email addresses in texts and files, in any case and as other formats escape them, and replace them.

Everything works on bytes, so that files in any encoding are searched alike. An address counts only as a whole: that of
joann@example.com does not contain ann@example.com.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Final
from unicodedata import normalize as normalized

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.forgotten import FORGOTTEN_PREFIX
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.emails import are_emails
from telemetron_batch.input.normalize import normalize
from telemetron_batch.retention.address_bounds import Verdict, judge

_AT_ONCE: Final = 20
"""Addresses that are searched for together."""
_ENTITIES: Final = {"@": "commat", "&": "amp", "'": "apos", "+": "plus", ".": "period", "_": "lowbar"}
_AT_SIGN: Final = re.compile(rb"@|%40|&#0*64;|&#[xX]0*40;|&commat;|\\u0040")
_ESCAPE: Final = re.compile(rb"[%&\x00]|\\u")
"""What a content has if it may escape letters, or write them in two bytes."""
_PLAIN_ADDRESS: Final = r"^[a-z0-9][a-z0-9._+-]*@[a-z0-9.-]*[a-z0-9-]$"
_LONG: Final = 1 << 16
"""Bytes from which a fast search for the lines of interest pays."""
_CONTEXT: Final = 1024
"""Bytes before and behind an address that are looked at: the longest address, escaped."""


def parse_addresses(texts: Sequence[str]) -> list[str]:
    """Return the addresses as the program stores them, without repetitions. Raises ConfigError if one is none."""
    wanted = pa.array([text for text in texts if text.strip()], pa.string())
    found = pc.ascii_lower(normalize(wanted))
    if not len(found):
        raise ConfigError("no address is given", "name one, or give one a line on standard input")
    wrong = [text for text, is_email in zip(wanted.to_pylist(), are_emails(found), strict=True) if not is_email]
    if wrong:
        raise ConfigError(f"{printable(wrong[0])!r} is no email address", "give one address, or one a line")
    return list({normalized("NFC", address): None for address in found.to_pylist()})


class AddressRewriter:
    """Replaces addresses by other values: a `TextRewriter`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """Take the value for each address, which is in lower case."""
        self._values = [(address, value.encode()) for address, value in values.items()]
        self.doubts = 0
        """How often a text was left that may be one of the addresses, or part of another person's."""

    @classmethod
    def forgetting(cls, addresses: Sequence[str], tokens: Iterator[str]) -> "AddressRewriter":
        """Return a rewriter that replaces each address by a value that is no address."""
        return cls({address: f"{FORGOTTEN_PREFIX}{token}" for address, token in zip(addresses, tokens, strict=False)})

    def text(self, text: str) -> str:
        """Return a text with the addresses replaced; the same object if it has none."""
        content = text.encode("utf-8", "surrogatepass")
        rewritten = self.content(content)
        return text if rewritten is content else rewritten.decode("utf-8", "surrogatepass")

    def column(self, texts: pa.Array) -> pa.Array:
        """Return a column of texts with the addresses replaced; the same object if it has none."""
        found = self._cells_with_address(texts)
        if not found.any():
            return texts
        mask = pa.array(found)
        before = texts.filter(mask).to_pylist()
        changed = [None if cell is None else self.text(cell) for cell in before]
        if changed == before:
            return texts
        return pc.replace_with_mask(texts, mask, pa.array(changed, texts.type))

    def holds(self, content: bytes) -> bool:
        """Return whether a content has any of the addresses."""
        return self.content(content) is not content

    def content(self, content: bytes) -> bytes:
        """Return a content in any encoding with the addresses replaced; the same object if it has none."""
        if not _AT_SIGN.search(content):
            return content
        lowered = content.lower()
        if not _ESCAPE.search(content) and not any(address in lowered for address in self._plain):
            return content
        rewritten = self._long_content(content) if len(content) > _LONG else self._replaced(content)
        return content if rewritten == content else rewritten

    def _replaced(self, content: bytes) -> bytes:
        for number, (pattern, values, encoding) in enumerate(self._patterns):
            addresses = [address for address, _ in self._values[number // len(_PATTERNS_OF) * _AT_ONCE :][:_AT_ONCE]]
            content = pattern.sub(partial(self._value_of, encoding, addresses, values), content)
        return content

    def _value_of(
        self, encoding: str, addresses: Sequence[str], values: Sequence[bytes], found: re.Match[bytes]
    ) -> bytes:
        """Return the value for what a pattern has found; the same bytes where they are part of another address."""
        content = found.string
        before = content[max(0, found.start() - _CONTEXT) : found.start()]
        if encoding == "utf-16-le":  # here and below: an odd number of bytes is the other order of bytes
            before = before[len(before) % 2 :]
        elif encoding == "utf-16-be" and len(before) % 2:
            before = b"\0" + before
        after = content[found.end() : found.end() + _CONTEXT]
        if encoding == "utf-16-le" and len(after) % 2:
            after += b"\0"
        assert found.lastindex is not None  # noqa: S101 - every alternative is a group
        left, written, right = (_decode(one, encoding) for one in (before, found[0], after))
        verdict = judge(left, written, right, addresses[found.lastindex - 1])
        self.doubts += verdict is Verdict.DOUBTFUL
        return values[found.lastindex - 1] if verdict is Verdict.ITSELF else found[0]

    def _long_content(self, content: bytes) -> bytes:
        """Return a content with the addresses replaced, after a fast search for the lines that may have one."""
        lines = content.split(b"\n")
        for at in np.flatnonzero(self._may_have_address(pa.array(lines, pa.large_binary()))).tolist():
            lines[at] = self._replaced(lines[at])
        return b"\n".join(lines)

    def _cells_with_address(self, texts: pa.Array) -> Flags:
        """Return which cells may have an address. A cell that is nothing but an address is looked up, not searched."""
        found = np.zeros(len(texts), np.bool_)
        likely = np.flatnonzero(_flags(pc.match_substring_regex(texts.cast(pa.large_binary()), _AT_SIGN.pattern)))
        if not len(likely):
            return found
        cells = pc.ascii_lower(texts.take(pa.array(likely)))
        is_plain = _flags(pc.match_substring_regex(cells, _PLAIN_ADDRESS))
        found[likely] = is_plain & _flags(pc.is_in(cells, value_set=self._addresses.cast(cells.type)))
        others = likely[~is_plain]
        found[others] = self._may_have_address(texts.take(pa.array(others)).cast(pa.large_binary()))
        return found

    def _may_have_address(self, cells: pa.Array) -> Flags:
        found = np.zeros(len(cells), np.bool_)
        for pattern in self._quick_patterns if len(cells) else ():
            found |= _flags(pc.match_substring_regex(cells, pattern))
        return found

    @cached_property
    def _addresses(self) -> pa.Array:
        return pa.array([address for address, _ in self._values], pa.string())

    @cached_property
    def _plain(self) -> list[bytes]:
        """The addresses in the encodings of plain files, in lower case as far as bytes have cases."""
        encodings = ("utf-8", "cp1252")
        return [
            one.encode(encoding, "ignore").lower()
            for address, _ in self._values
            for one in dict.fromkeys(
                normalized(form, cased) for form in ("NFC", "NFD") for cased in (address, address.upper())
            )
            for encoding in encodings
        ]

    @cached_property
    def _quick_patterns(self) -> list[bytes]:
        """Patterns that the library of Arrow searches for fast; they match a little more than addresses."""
        return [
            b"|".join(
                pattern(address) for address, _ in self._values[first : first + _AT_ONCE] for pattern, _ in _PATTERNS_OF
            )
            for first in range(0, len(self._values), _AT_ONCE)
        ]

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[bytes], Sequence[bytes], str]]:
        """Patterns with one group for each address, the value of each group, and the encoding of the text."""
        found: list[tuple[re.Pattern[bytes], Sequence[bytes], str]] = []
        for first in range(0, len(self._values), _AT_ONCE):
            some = self._values[first : first + _AT_ONCE]
            for pattern, encoding in _PATTERNS_OF:
                either = b"|".join(b"(" + pattern(address) + b")" for address, _ in some)
                values = [value.decode().encode(encoding) for _, value in some]
                found.append((re.compile(either), values, encoding))
        return found


def _flags(column: pa.Array) -> Flags:
    flags: Flags = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return flags


def _decode(content: bytes, encoding: str) -> str:
    """Return the text of bytes, some of which may be in an older encoding."""
    if encoding != "utf-8":
        return content.decode(encoding, "replace")
    with suppress(UnicodeDecodeError):
        return content.decode()
    text = content.decode("utf-8", "surrogateescape")
    return "".join(
        bytes([ord(one) - 0xDC00]).decode("cp1252", "replace") if 0xDC80 <= ord(one) <= 0xDCFF else one for one in text
    )


def _narrow(address: str) -> bytes:
    """Return the pattern of an address in encodings that have ASCII as single bytes."""
    return b"".join(map(_composed_forms, normalized("NFC", address)))


def _composed_forms(letter: str) -> bytes:
    """Return the pattern of a letter, composed or as a letter with marks that follow it."""
    parts = normalized("NFD", letter)
    if parts == letter:
        return _forms(letter)
    return b"(?:" + _forms(letter) + b"|" + b"".join(map(_forms, parts)) + b")"


def _forms(letter: str) -> bytes:
    """Return the pattern of a letter: in both cases, plain, percent-encoded, as an entity or a JSON escape."""
    forms: dict[bytes, None] = {}
    for one in dict.fromkeys((letter, letter.lower(), letter.upper())):
        if len(one) != 1:
            continue
        for encoding in ("utf-8", "cp1252"):
            encoded = one.encode(encoding, "ignore")
            forms |= {_bytes_pattern(encoded): None, b"".join(map(_percent, encoded)): None}
        forms[b"&#(?i:0*%d|x0*%x);" % (ord(one), ord(one))] = None
        forms[b"\\\\u(?i:%s)" % b"".join(b"%02x" % byte for byte in one.encode("utf-16-be"))] = None
    if letter in _ENTITIES:
        forms[b"&%s;" % _ENTITIES[letter].encode()] = None
    forms.pop(b"", None)
    return b"(?:" + b"|".join(forms) + b")"


def _percent(byte: int) -> bytes:
    return b"%%(?i:%02x)" % byte


def _wide(address: str, encoding: str) -> bytes:
    """Return the pattern of an address in UTF-16."""
    return b"".join(_wide_forms(letter, encoding) for letter in normalized("NFC", address))


def _wide_forms(letter: str, encoding: str) -> bytes:
    cases = [one for one in dict.fromkeys((letter, letter.lower(), letter.upper())) if len(one) == 1]
    forms = dict.fromkeys(normalized(form, one).encode(encoding) for one in cases for form in ("NFC", "NFD"))
    return b"(?:" + b"|".join(map(_bytes_pattern, forms)) + b")"


def _bytes_pattern(content: bytes) -> bytes:
    """Return the pattern of these bytes, in a form that all regular expressions understand."""
    return b"".join(b"\\x%02x" % byte for byte in content)


_PATTERNS_OF: Final[Sequence[tuple[Callable[[str], bytes], str]]] = (
    (_narrow, "utf-8"),
    (partial(_wide, encoding="utf-16-le"), "utf-16-le"),
    (partial(_wide, encoding="utf-16-be"), "utf-16-be"),
)
"""How the pattern of an address is made for each encoding.

ASCII in UTF-16 fits both orders of bytes, but for its end.
"""
