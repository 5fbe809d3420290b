"""Recognise email addresses."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags
from telemetron_batch.input.flags import flags_of, matching

MAX_EMAIL_LENGTH: Final = 254

_LETTER: Final = r"\p{L}\p{M}"
_LABEL: Final = rf"[{_LETTER}\p{{Nd}}](?:[{_LETTER}\p{{Nd}}-]*[{_LETTER}\p{{Nd}}])?"
_LAST_LABEL: Final = rf"(?:[{_LETTER}]{{2,}}|(?i:xn--)[a-zA-Z0-9-]*[a-zA-Z0-9])"
_LOCAL: Final = rf"[{_LETTER}\p{{Nd}}!#$%&*+/=?^_`{{|}}~-]"
EMAIL: Final = rf"^{_LOCAL}(?:[.']?{_LOCAL})*@(?:{_LABEL}\.)+{_LAST_LABEL}$"
_ASCII_EMAIL: Final = EMAIL.replace(r"\p{L}\p{M}", "A-Za-z").replace(r"\p{Nd}", "0-9")
"""`EMAIL` for addresses in ASCII: compiles and matches far faster."""


def are_emails(texts: pa.Array) -> Flags:
    """Return which normalized cells are email addresses."""
    return ~not_emails(texts)


def not_emails(texts: pa.Array) -> Flags:
    """Return which normalized cells are not email addresses."""
    invalid = ~matching(texts, _ASCII_EMAIL)
    rows = np.flatnonzero(invalid)
    if len(rows):
        others = texts.take(pa.array(rows))
        is_non_ascii = ~flags_of(pc.string_is_ascii(others))
        invalid[rows[is_non_ascii]] = ~matching(others.filter(pa.array(is_non_ascii)), EMAIL)
    long = flags_of(pc.greater(pc.binary_length(texts), MAX_EMAIL_LENGTH))
    if long.any():
        invalid[long] |= flags_of(pc.greater(pc.utf8_length(texts.filter(pa.array(long))), MAX_EMAIL_LENGTH))
    return invalid
