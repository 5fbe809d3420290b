"""Input files as bytes on disk: which kind, which hash, which encoding, and their text as UTF-8.

Gives pieces of UTF-8 text without a byte order mark, whatever the file was written in,
and turns every way in which reading can fail into one line for the person who made the
file. Knows nothing of delimiters, records or cells.
"""

import codecs
import errno
import gzip
import hashlib
import os
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from shlex import quote
from typing import BinaryIO, Final, cast

from telemetron_batch.domain.errors import DiskError, InputError
from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.input.dialect import FALLBACK_ENCODING, INIT, encoding_from_bom, said_encoding
from telemetron_batch.input.foreign_formats import refuse_compound_file, refuse_foreign_text, refuse_packed_twice
from telemetron_batch.storage.atomic_file import require_free_space
from telemetron_batch.storage.object_store import fetch

CHUNK_BYTES: Final = 4 << 20
"""Bytes read at a time; with more of them, what is worked out for a piece outgrows a processor's cache."""
_HEAD: Final = 4096
_GZIP_RATIO: Final = 8
"""Times the bytes of a compressed file its text has, about."""
_GZIP: Final = b"\x1f\x8b"
_WORKBOOK: Final = b"PK\x03\x04"
_EMPTY_ZIP: Final = b"PK\x05\x06"
_COMPOUND_FILE: Final = b"\xd0\xcf\x11\xe0"
_OFFICE_PARTS: Final = frozenset({"[content_types].xml", "xl/workbook.xml", "content.xml"})
"""Names in a zip archive, in small letters, of which an Office or OpenDocument file has one."""
_TABLES: Final = (".csv", ".tsv", ".txt")
_ENCRYPTED: Final = 1
_MOST_UNPACKED: Final = 1 << 37
"""Bytes to which the file in a zip archive may unpack; it is read no further than it says."""
_UTF8: Final = ("utf-8", "utf-8-sig")
# The five bytes that Windows-1252 leaves undefined become control characters, as browsers read them.
_WINDOWS: Final = "".join(bytes([octet]).decode("cp1252", errors="ignore") or chr(octet) for octet in range(256))


class FileKind(Enum):
    """How the bytes are to be opened."""

    TEXT = "text"
    GZIP = "gzip"
    ZIP = "zip"
    WORKBOOK = "workbook"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file that can be read as often as needed."""

    path: Path
    name: str
    kind: FileKind
    origin: str
    """Its path as it was given, or the URL of which it is a copy; empty for a copy of what can be read only once."""

    @property
    def modified_at(self) -> float | None:
        """When it was last written, in seconds since the epoch; None where that means nothing."""
        return self.path.stat().st_mtime if self.origin else None

    @property
    def text_size(self) -> int:
        """Bytes of its text, about."""
        return self.path.stat().st_size * (1 if self.kind is FileKind.TEXT else _GZIP_RATIO)

    def fingerprint(self) -> tuple[int, int]:
        """Size and time of change: a file must keep them while it is read."""
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    def sha256(self) -> str:
        """Of the bytes as stored, compressed where the file is."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def open(self) -> BinaryIO:
        """The bytes, decompressed where the file is compressed."""
        if self.kind is FileKind.GZIP:
            return cast(BinaryIO, gzip.open(self.path, "rb"))
        if self.kind is FileKind.ZIP:
            with zipfile.ZipFile(self.path) as package:  # stays open as long as the file in it
                return cast(BinaryIO, package.open(_table_in(package)))
        return self.path.open("rb")


@dataclass(frozen=True, slots=True)
class DecodedText:
    """A stored file together with the encoding in which it is to be read."""

    stored: SourceFile
    encoding: str
    guessed: bool
    warnings: tuple[str, ...]

    def pieces(self) -> Iterator[bytes]:
        """The text as UTF-8, about `CHUNK_BYTES` bytes at a time, without a byte order mark."""
        pieces = self._decoded()
        head = b""
        for piece in pieces:
            head += piece
            if len(head) >= len(codecs.BOM_UTF8):
                break
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from pieces

    def head(self, size: int) -> bytes:
        """The first so many bytes of the text."""
        head = b""
        for piece in self.pieces():
            head += piece
            if len(head) >= size:
                break
        return head[:size]

    def _decoded(self) -> Iterator[bytes]:
        if self.encoding in _UTF8:
            return _bytes_of(self.stored)
        if self.encoding in ("cp1252", FALLBACK_ENCODING):
            return (codecs.charmap_decode(piece, "strict", _WINDOWS)[0].encode() for piece in _bytes_of(self.stored))
        return _transcoded(self.stored, self.encoding)


@contextmanager
def input_errors(name: str) -> Iterator[None]:
    """Turns what can go wrong in reading into InputError, and puts the file's name before it."""
    try:
        yield
    except InputError as error:
        advice = error.advice.replace(INIT, INIT.replace("FILE", quote(name)))
        raise InputError(f"{name}: {error.reason}", advice) from error
    except FileNotFoundError as error:
        raise InputError(f"{name}: there is no such file", "check the path") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{name}: broken zip file ({error})", "fetch or make the file again") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        kind = "zip" if name.lower().endswith(".zip") else "gzip"
        raise InputError(f"{name}: broken {kind} file ({error})", "fetch or make the file again") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place was looked for that the file does not have
            raise InputError(f"{name}: is damaged", "fetch or make the file again") from error
        raise InputError(f"{name}: cannot be read ({error.strerror or error})", "check the file") from error


def open_source(path: str, spool: Path) -> SourceFile:
    """The file behind a path or URL; what is elsewhere or can be read only once (`-`, a pipe) is copied to `spool`.

    Raises InputError for a folder and for kinds that cannot be read, DiskError when the
    copy cannot be written; any OSError in opening the file is left to `input_errors`.
    """
    if path == "-":
        return _sniff(_spool_to_disk(sys.stdin.buffer, spool, "stdin"), "stdin")
    path = strip_file_scheme(path)
    if is_url(path):
        return _sniff(fetch(path, spool, require_free_space), path, path)
    place = Path(path)
    mode = place.stat().st_mode
    if stat.S_ISDIR(mode):
        raise InputError("is a folder, not a file", "name the files in it one by one")
    if _is_device(place.stat()):
        raise InputError("is a device or a socket, not a file", "name a file, or a pipe")
    if not stat.S_ISREG(mode):
        with place.open("rb") as pipe:
            return _sniff(_spool_to_disk(pipe, spool, place.name), place.name)
    return _sniff(place, place.name, str(place))


def _is_device(found: os.stat_result) -> bool:
    """Whether that is a device, which may never end, or a socket; the null device is an empty file."""
    is_null = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode) or is_null)


def estimate_text_size(path: str) -> int:
    """Bytes of text in a file that need not be copied first, about; 0 of any other, and of one that cannot be read."""
    place = Path(strip_file_scheme(path))
    with suppress(InputError, OSError):
        return _sniff(place, place.name).text_size if place.is_file() else 0
    return 0


def detect_encoding(stored: SourceFile, said: str | None) -> DecodedText:
    """Settle the encoding: the one said, else a byte order mark, else UTF-8, else a guess."""
    with stored.open() as file:
        head = file.read(_HEAD)
    if stored.kind is not FileKind.TEXT:
        refuse_packed_twice(head)
    refuse_foreign_text(head)
    marked = encoding_from_bom(head)
    encoding = said_encoding(said) if said is not None else marked or "utf-8"
    bad = _first_bad_byte(stored) if encoding in _UTF8 else None
    if bad is not None and encoding == "utf-8" and said is None:
        warning = (
            f"not UTF-8 (byte {bad}), so read as Windows-1252 on a guess; rows whose key cells hold "
            "other letters than ASCII are invalid; say the encoding with --encoding"
        )
        return DecodedText(stored, FALLBACK_ENCODING, guessed=True, warnings=(warning,))
    if bad is not None:
        raise InputError(f"is not {encoding} (byte {bad})", "say the encoding with --encoding, such as cp1252")
    warnings: tuple[str, ...] = ()
    if marked is not None and encoding.removesuffix("-sig") not in marked:
        warnings = (f"read as {encoding} because --encoding says so, though its first bytes say {marked}",)
    return DecodedText(stored, encoding, guessed=False, warnings=warnings)


def _sniff(path: Path, name: str, origin: str = "") -> SourceFile:
    with path.open("rb") as file:
        first = file.read(_HEAD)
        head = first[:4]
    ending = Path(name).suffix.lower()
    if head == _COMPOUND_FILE:
        refuse_compound_file(path)
    if ending == ".xlsx" and head != _WORKBOOK:
        refuse_foreign_text(first)
        raise InputError("is not a workbook, whatever its name says", "name it .csv if it is text")
    if ending == ".zip" and head and head not in (_WORKBOOK, _EMPTY_ZIP):
        refuse_foreign_text(first)
        raise InputError("is not a zip archive, whatever its name says", "take .zip off its name if it is text")
    if head in (_WORKBOOK, _EMPTY_ZIP):
        if ending == ".zip" or (ending != ".xlsx" and not _is_workbook(path)):
            return SourceFile(path, name, FileKind.ZIP, origin)
        return SourceFile(path, name, FileKind.WORKBOOK, origin)
    if head.startswith(_GZIP):
        return SourceFile(path, name, FileKind.GZIP, origin)
    if ending == ".gz" and head:
        raise InputError("is not gzip, whatever its name says", "take .gz off its name if it is text")
    return SourceFile(path, name, FileKind.TEXT, origin)


def _is_workbook(path: Path) -> bool:
    """Whether a zip archive is an Office file; one that holds no readable table raises InputError.

    What cannot be read is left to the reader of workbooks to refuse.
    """
    try:
        with zipfile.ZipFile(path) as package:
            if _OFFICE_PARTS & {name.lower() for name in package.namelist()}:
                return True
            _table_in(package)
            return False
    except (zipfile.BadZipFile, NotImplementedError):
        return True


def _table_in(package: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one text file of an archive. Raises InputError where there is none or more than one, or it cannot be read."""
    tables = [
        member
        for member in package.infolist()
        if member.filename.lower().endswith(_TABLES)
        and not member.filename.startswith("__MACOSX/")
        and not member.filename.rpartition("/")[2].startswith(".")
    ]
    if len(tables) != 1:
        held = "no .csv, .tsv or .txt file" if not tables else f"{len(tables)} files"
        raise InputError(f"is a zip archive with {held} in it", "unzip it and name the files that are meant")
    (table,) = tables
    if table.flag_bits & _ENCRYPTED:
        raise InputError("is a zip archive with a password", "unzip it and name the file in it")
    if table.file_size > _MOST_UNPACKED:
        raise InputError(f"is a zip archive whose file unpacks to {table.file_size} bytes", "look what it holds")
    return table


def _spool_to_disk(source: BinaryIO, spool: Path, name: str) -> Path:
    """A copy that can be read again, readable by its owner only."""
    copy = spool / name
    try:
        spool.mkdir(parents=True, exist_ok=True)
        with open(copy, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
    except OSError as error:
        raise DiskError(f"{name} cannot be kept in {spool} ({error.strerror})", "free or name another disk") from error
    return copy


def _bytes_of(stored: SourceFile) -> Iterator[bytes]:
    with stored.open() as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


def _transcoded(stored: SourceFile, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for piece in _bytes_of(stored):
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise InputError(f"is not {encoding} ({error})", "say the encoding with --encoding") from error


def _first_bad_byte(stored: SourceFile) -> int | None:
    """Where, counted from 0, the file stops being UTF-8; None if it is UTF-8 to its end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    try:
        for piece in _bytes_of(stored):
            pending = len(decoder.getstate()[0])
            if pending or not piece.isascii():  # which most pieces are, and that is seen at once
                decoder.decode(piece)
            read += len(piece)
        pending = len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return read - pending + error.start
    return None
