"""Recognise files that are no tables, although their names say so, and refuse them with a helpful message.

Such as encrypted and old workbooks, web pages, PDF documents and archives. They are recognised by their first
bytes, compound files by their streams.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

from telemetron_batch.domain.errors import InputError
from telemetron_batch.input.dialect import BOMS

_SAVE: Final = "open it in a spreadsheet and save it as .xlsx, or as CSV UTF-8"
_CHUNK_BYTES: Final = 4 << 20
_MAX_SEARCHED_BYTES: Final = 256 << 20
_ENTRY_BYTES: Final = 128
"""Size of a stream's entry in a compound file; entries begin at multiples of it."""
_NAME_BYTES: Final = 64
_STREAMS: Final = (
    ("\tDRMContent", "is a rights-protected workbook", "have it saved without protection, or export it as CSV"),
    (
        "DRMEncryptedTransform",
        "is a rights-protected workbook (it may have a sensitivity label)",
        "open it, take the label or the restriction off, and save it again",
    ),
    (
        "EncryptedPackage",
        "is an encrypted workbook (it has a password or a sensitivity label)",
        "open it and save it again without password and label",
    ),
    ("Workbook", "is an old workbook (.xls)", _SAVE),
    ("Book", "is an old workbook (.xls)", _SAVE),
    ("WordDocument", "is a Word document", "export the table as .xlsx or CSV"),
)
_UNKNOWN: Final = ("is an old workbook (.xls) or another old Office file", _SAVE)
_ONE_A_LINE: Final = "write one object a line"
_TEXTS: Final = (
    (
        re.compile(r"%pdf-"),
        "is a PDF document",
        "export the table as .xlsx or CSV from where it was made",
    ),
    (re.compile(r"\{\\rtf"), "is an RTF document", "export the table as .xlsx or CSV"),
    (
        re.compile(r"(?:[\w-]+:[^\n]*\n(?:[ \t][^\n]*\n)*)*?content-type:\s*(?:multipart/|text/html)"),
        "is a web archive (MHTML), whatever its name says",
        _SAVE,
    ),
    (
        re.compile(r"<\?xml\b.{0,3000}?(?:progid=.excel\.sheet|urn:schemas-microsoft-com:office:spreadsheet)", re.S),
        "is an XML spreadsheet of 2003, whatever its name says",
        _SAVE,
    ),
    (
        re.compile(
            r"(?:<\?xml\b[^>]*>\s*)?(?:<!--.{0,2000}?-->\s*)*"
            r"<(?:!doctype\s+html|(?:html|head|body|table|meta|style|script|title|div)[\s/>])",
            re.S,
        ),
        "is a web page, whatever its name says",
        f"{_SAVE}; if it is a login or error page, fetch the file again",
    ),
    (re.compile(r"<\?xml\b"), "is an XML document", "export the table as .xlsx or CSV"),
    (re.compile(r"\[\s*[{\[\]]"), "is a JSON array, not JSON lines", f"{_ONE_A_LINE} (jq -c '.[]' FILE)"),
    (re.compile(r"\{[ \t\r]*\n"), "is JSON over several lines, not JSON lines", f"{_ONE_A_LINE} (jq -c . FILE)"),
)
"""How a text begins, in lower case, without byte order mark and white space."""
_UNPACK: Final = "unpack it and name the file that is meant"
_COMPRESS: Final = "unpack it, or compress it with gzip"
_EXPORT: Final = "export the table as Parquet, JSON lines or CSV"
_PACKED: Final = (
    (re.compile(rb".{257}ustar(?:\0|  \0)", re.S), "is a tar archive", _UNPACK),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "is a 7-Zip archive", _UNPACK),
    (re.compile(rb"Rar!\x1a\x07"), "is a RAR archive", _UNPACK),
    (re.compile(rb"BZh[1-9]1AY&SY"), "is compressed with bzip2", _COMPRESS),
    (re.compile(rb"\xfd7zXZ\0"), "is compressed with xz", _COMPRESS),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "is compressed with Zstandard", _COMPRESS),
    (re.compile(rb"ARROW1\0\0|FEA1.{0,4096}?\0", re.S), "is an Arrow or Feather file", _EXPORT),
    (re.compile(rb"ORC[\0-\x1f]"), "is an ORC file", _EXPORT),
    (re.compile(rb"Obj\x01"), "is an Avro file", _EXPORT),
    (re.compile(rb"SQLite format 3\0"), "is an SQLite database", "read it with --query and --source-url-file"),
)
_PACKED_TWICE: Final = (
    (re.compile(rb"\x1f\x8b"), "is compressed twice", "unpack it once"),
    (re.compile(rb"PK\x03\x04"), "is a zip archive or workbook that was compressed again", "unpack it once"),
    (re.compile(rb"PAR1.{0,4096}?\0", re.S), "is a Parquet file that was compressed again", "unpack it once"),
)
"""How the content of a compressed file begins."""


def refuse_unsupported_text(head: bytes) -> None:
    """Raise InputError if a file is a document or archive, by its first bytes."""
    _refuse_packed(head, _PACKED)
    text = _decoded(head).lstrip("\ufeff \t\r\n").lower()
    for beginning, what, advice in _TEXTS:
        if beginning.match(text):
            raise InputError(what, advice)


def refuse_packed_twice(head: bytes) -> None:
    """Raise InputError if the content of a compressed file is compressed again, by its first bytes."""
    _refuse_packed(head, _PACKED_TWICE)


def _refuse_packed(head: bytes, kinds: Iterable[tuple[re.Pattern[bytes], str, str]]) -> None:
    for beginning, what, advice in kinds:
        if beginning.match(head):
            raise InputError(what, advice)


def refuse_compound_file(path: Path) -> NoReturn:
    """Raise InputError that names what a compound file is: old and encrypted Office files are such."""
    streams = _streams(path)
    what, advice = next((words for name, *words in _STREAMS if name in streams), _UNKNOWN)
    raise InputError(what, advice)


def _decoded(head: bytes) -> str:
    for mark, encoding in BOMS:
        if head.startswith(mark):
            return head.decode(encoding, errors="replace")
    if head[:2] in (b"<\0", b"\0<"):
        return head.replace(b"\0", b"").decode("latin-1")
    return head.decode("latin-1")


def _streams(path: Path) -> set[str]:
    """Return which of the streams in `_STREAMS` a compound file has."""
    sought = {name: name.encode("utf-16-le").ljust(_NAME_BYTES, b"\0") for name, *_ in _STREAMS}
    found: set[str] = set()
    with path.open("rb") as file:
        for _ in range(0, _MAX_SEARCHED_BYTES, _CHUNK_BYTES):
            chunk = file.read(_CHUNK_BYTES)  # contains whole entries, because its size is a multiple of theirs
            found |= {name for name, entry in sought.items() if _has_entry(chunk, entry)}
            if len(chunk) < _CHUNK_BYTES:
                break
    return found


def _has_entry(chunk: bytes, entry: bytes) -> bool:
    at = chunk.find(entry)
    while at >= 0 and at % _ENTRY_BYTES:
        at = chunk.find(entry, at + 1)
    return at >= 0
