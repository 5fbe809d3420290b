"""Files that are no table of ours, named for what they are: by their first bytes, or by the streams they hold.

Encrypted and old workbooks, web pages, PDF, archives and the like often go by the name of a table.
"""

import codecs
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

from telemetron_batch.domain.errors import InputError

_SAVE: Final = "open it in a spreadsheet and save it as .xlsx, or as CSV UTF-8"
_PIECE: Final = 4 << 20
_MOST_SEARCHED: Final = 256 << 20
_ENTRY: Final = 128
"""Bytes of a stream's entry in a compound file; entries stand at multiples of that."""
_NAME: Final = 64
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
)
"""What text begins with, in lower case, without byte order mark and white space."""
_UNPACK: Final = "unpack it and name the file that is meant"
_COMPRESS: Final = "unpack it, or compress it with gzip"
_PACKED: Final = (
    (re.compile(rb".{257}ustar(?:\0|  \0)", re.S), "is a tar archive", _UNPACK),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "is a 7-Zip archive", _UNPACK),
    (re.compile(rb"Rar!\x1a\x07"), "is a RAR archive", _UNPACK),
    (re.compile(rb"BZh[1-9]1AY&SY"), "is compressed with bzip2", _COMPRESS),
    (re.compile(rb"\xfd7zXZ\0"), "is compressed with xz", _COMPRESS),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "is compressed with Zstandard", _COMPRESS),
)
_PACKED_TWICE: Final = (
    (re.compile(rb"\x1f\x8b"), "is compressed twice", "unpack it once"),
    (re.compile(rb"PK\x03\x04"), "is a zip archive or workbook that was compressed again", "unpack it once"),
)
"""What the bytes of a compressed file begin with once it is unpacked."""
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def refuse_foreign_text(head: bytes) -> None:
    """Raise InputError if the first bytes of a file are those of a document or archive that is no table."""
    _refuse_packed(head, _PACKED)
    text = _decoded(head).lstrip("\ufeff \t\r\n").lower()
    for beginning, what, advice in _TEXTS:
        if beginning.match(text):
            raise InputError(what, advice)


def refuse_packed_twice(head: bytes) -> None:
    """Raise InputError if the first bytes that a compressed file unpacks to are those of another one."""
    _refuse_packed(head, _PACKED_TWICE)


def _refuse_packed(head: bytes, kinds: Iterable[tuple[re.Pattern[bytes], str, str]]) -> None:
    for beginning, what, advice in kinds:
        if beginning.match(head):
            raise InputError(what, advice)


def refuse_compound_file(path: Path) -> NoReturn:
    """Raise InputError for a compound file, the container of old and of encrypted Office files, by what it holds."""
    streams = _streams(path)
    what, advice = next((words for name, *words in _STREAMS if name in streams), _UNKNOWN)
    raise InputError(what, advice)


def _decoded(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return head.decode(encoding, errors="replace")
    if head[:2] in (b"<\0", b"\0<"):
        return head.replace(b"\0", b"").decode("latin-1")
    return head.decode("latin-1")


def _streams(path: Path) -> set[str]:
    """Return the names of those streams that tell what a compound file is."""
    sought = {name: name.encode("utf-16-le").ljust(_NAME, b"\0") for name, *_ in _STREAMS}
    found: set[str] = set()
    with path.open("rb") as file:
        for _ in range(0, _MOST_SEARCHED, _PIECE):
            piece = file.read(_PIECE)  # whole entries: sectors, and so pieces, are multiples of their size
            found |= {name for name, entry in sought.items() if _has_entry(piece, entry)}
            if len(piece) < _PIECE:
                break
    return found


def _has_entry(piece: bytes, entry: bytes) -> bool:
    at = piece.find(entry)
    while at >= 0 and at % _ENTRY:
        at = piece.find(entry, at + 1)
    return at >= 0
