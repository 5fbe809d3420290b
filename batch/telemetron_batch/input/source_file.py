"""Open input files: find their kind and encoding, and read their text as UTF-8.

The text comes in chunks of UTF-8 without a byte order mark. Errors in reading become
InputError with a message for the person who made the file.
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
from typing import BinaryIO, Final, cast

from telemetron_batch.domain.errors import DiskError, InputError
from telemetron_batch.domain.shell import quote
from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.input.dialect import FALLBACK_ENCODING, INIT_COMMAND, encoding_from_bom, requested_encoding
from telemetron_batch.input.unsupported_formats import (
    refuse_compound_file,
    refuse_packed_twice,
    refuse_unsupported_text,
)
from telemetron_batch.storage.atomic_file import require_free_space
from telemetron_batch.storage.object_store import fetch

CHUNK_BYTES: Final = 4 << 20
"""Bytes read at a time; the arrays for a larger chunk would not fit into the processor's cache."""
_HEAD: Final = 4096
_GZIP_RATIO: Final = 8
"""Approximate ratio of the size of a text to its compressed size."""
_GZIP: Final = b"\x1f\x8b"
_WORKBOOK: Final = b"PK\x03\x04"
_EMPTY_ZIP: Final = b"PK\x05\x06"
_PARQUET: Final = b"PAR1"
_ENCRYPTED_PARQUET: Final = b"PARE"
_COMPOUND_FILE: Final = b"\xd0\xcf\x11\xe0"
_OFFICE_PARTS: Final = frozenset({"[content_types].xml", "xl/workbook.xml", "content.xml"})
"""Names of members (in lower case) that show that a zip archive is an Office or OpenDocument file."""
_TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt")
_ENCRYPTED: Final = 1
_MAX_UNPACKED_BYTES: Final = 1 << 37
"""Largest size of the file in a zip archive; no more is read than the size that the archive states."""
_UTF8: Final = ("utf-8", "utf-8-sig")
# The five bytes that Windows-1252 does not define become control characters, as in browsers.
_CP1252_TABLE: Final = "".join(bytes([octet]).decode("cp1252", errors="ignore") or chr(octet) for octet in range(256))


class FileKind(Enum):
    """How to open the bytes of a file."""

    TEXT = "text"
    GZIP = "gzip"
    ZIP = "zip"
    WORKBOOK = "workbook"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file, which can be read several times."""

    path: Path
    name: str
    kind: FileKind
    given_path: str
    """The given path, or the URL that this is a copy of; empty for a copy of standard input or a pipe."""

    @property
    def modified_at(self) -> float | None:
        """Modification time in seconds since the epoch; None for a copy of standard input or a pipe."""
        return self.path.stat().st_mtime if self.given_path else None

    @property
    def text_size(self) -> int:
        """Approximate size of the text in bytes."""
        return self.path.stat().st_size * (1 if self.kind is FileKind.TEXT else _GZIP_RATIO)

    def fingerprint(self) -> tuple[int, int]:
        """Return size and modification time, which must not change while the file is read."""
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    def sha256(self) -> str:
        """Return the SHA-256 of the file as it is stored, before decompression."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def open(self) -> BinaryIO:
        """Open the file for reading its bytes, decompressed."""
        if self.kind is FileKind.GZIP:
            return cast(BinaryIO, gzip.open(self.path, "rb"))
        if self.kind is FileKind.ZIP:
            with zipfile.ZipFile(self.path) as package:  # the archive stays open as long as the member
                return cast(BinaryIO, package.open(_table_in(package)))
        return self.path.open("rb")


@dataclass(frozen=True, slots=True)
class DecodedText:
    """A file, and the encoding to read it with."""

    source: SourceFile
    encoding: str
    encoding_guessed: bool
    warnings: tuple[str, ...]

    def chunks(self) -> Iterator[bytes]:
        """Yield the text as UTF-8 without a byte order mark, about `CHUNK_BYTES` at a time."""
        chunks = self._decoded()
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= len(codecs.BOM_UTF8):
                break
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from chunks

    def head(self, size: int) -> bytes:
        """Return the first `size` bytes of the text."""
        head = b""
        for chunk in self.chunks():
            head += chunk
            if len(head) >= size:
                break
        return head[:size]

    def _decoded(self) -> Iterator[bytes]:
        if self.encoding in _UTF8:
            return _bytes_of(self.source)
        if self.encoding in ("cp1252", FALLBACK_ENCODING):
            return (
                codecs.charmap_decode(chunk, "strict", _CP1252_TABLE)[0].encode() for chunk in _bytes_of(self.source)
            )
        return _transcoded(self.source, self.encoding)


@contextmanager
def input_errors(name: str) -> Iterator[None]:
    """Turn errors in reading into InputError, with the name of the file in front."""
    try:
        yield
    except InputError as error:
        advice = error.advice.replace(INIT_COMMAND, INIT_COMMAND.replace("FILE", quote(name)))
        raise InputError(f"{name}: {error.reason}", advice) from error
    except FileNotFoundError as error:
        raise InputError(f"{name}: there is no such file", "check the path") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{name}: broken zip file ({error})", "fetch or make the file again") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        kind = "zip" if name.lower().endswith(".zip") else "gzip"
        raise InputError(f"{name}: broken {kind} file ({error})", "fetch or make the file again") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # an offset in the file is invalid
            raise InputError(f"{name}: is damaged", "fetch or make the file again") from error
        raise InputError(f"{name}: cannot be read ({error.strerror or error})", "check the file") from error


def open_source(path: str, spool: Path) -> SourceFile:
    """Return the file for a path or URL; a URL, a pipe and standard input (`-`) are copied to `spool`.

    Raises InputError for a folder and for kinds that cannot be read, DiskError if the copy
    cannot be written, and OSError, which `input_errors` translates.
    """
    if path == "-":
        return _sniff(_spool_to_disk(sys.stdin.buffer, spool, "stdin"), "stdin")
    path = strip_file_scheme(path)
    if is_url(path):
        return _sniff(fetch(path, spool, require_free_space), path, path)
    file = Path(path)
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise InputError("is a folder, not a file", "name the files in it one by one")
    if _is_device(file.stat()):
        raise InputError("is a device or a socket, not a file", "name a file, or a pipe")
    if not stat.S_ISREG(mode):
        with file.open("rb") as pipe:
            return _sniff(_spool_to_disk(pipe, spool, file.name), file.name)
    return _sniff(file, file.name, str(file))


def _is_device(found: os.stat_result) -> bool:
    """Return whether this is a device, which may never end, or a socket; the null device counts as an empty file."""
    is_null = stat.S_ISCHR(found.st_mode) and _device_number(found) == _device_number(os.stat(os.devnull))  # noqa: PTH116
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode) or is_null)


def _device_number(found: os.stat_result) -> int:
    """Return the number of a device; 0 on Windows, where only NUL is one that has a status."""
    if sys.platform == "win32":
        return 0
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        return found.st_rdev


def estimate_text_size(path: str) -> int:
    """Return the approximate size of the text in bytes; 0 for a file that must be copied or cannot be read."""
    file = Path(strip_file_scheme(path))
    with suppress(InputError, OSError):
        return _sniff(file, file.name).text_size if file.is_file() else 0
    return 0


def detect_encoding(source: SourceFile, requested: str | None) -> DecodedText:
    """Find the encoding: the requested one, else by the byte order mark, else UTF-8, else a guess."""
    with source.open() as file:
        head = file.read(_HEAD)
    if source.kind is not FileKind.TEXT:
        refuse_packed_twice(head)
    refuse_unsupported_text(head)
    from_bom = encoding_from_bom(head)
    encoding = requested_encoding(requested) if requested is not None else from_bom or "utf-8"
    bad = _first_bad_byte(source) if encoding in _UTF8 else None
    if bad is not None and encoding == "utf-8" and requested is None:
        warning = (
            f"not UTF-8 (byte {bad}), so read as Windows-1252 on a guess; rows whose key cells hold "
            "other letters than ASCII are invalid; say the encoding with --encoding"
        )
        return DecodedText(source, FALLBACK_ENCODING, encoding_guessed=True, warnings=(warning,))
    if bad is not None:
        raise InputError(f"is not {encoding} (byte {bad})", "say the encoding with --encoding, such as cp1252")
    warnings: tuple[str, ...] = ()
    if from_bom is not None and encoding.removesuffix("-sig") not in from_bom:
        warnings = (f"read as {encoding} because --encoding says so, though its first bytes say {from_bom}",)
    return DecodedText(source, encoding, encoding_guessed=False, warnings=warnings)


def _sniff(path: Path, name: str, given_path: str = "") -> SourceFile:
    with path.open("rb") as file:
        first = file.read(_HEAD)
        head = first[:4]
    ending = Path(name).suffix.lower()
    if head == _COMPOUND_FILE:
        refuse_compound_file(path)
    if ending == ".xlsx" and head != _WORKBOOK:
        refuse_unsupported_text(first)
        raise InputError("is not a workbook, whatever its name says", "name it .csv if it is text")
    if ending == ".zip" and head and head not in (_WORKBOOK, _EMPTY_ZIP):
        refuse_unsupported_text(first)
        raise InputError("is not a zip archive, whatever its name says", "take .zip off its name if it is text")
    if head in (_WORKBOOK, _EMPTY_ZIP):
        if ending == ".zip" or (ending != ".xlsx" and not _is_workbook(path)):
            return SourceFile(path, name, FileKind.ZIP, given_path)
        return SourceFile(path, name, FileKind.WORKBOOK, given_path)
    if head.startswith(_GZIP):
        return SourceFile(path, name, FileKind.GZIP, given_path)
    if ending == ".parquet" or (head in (_PARQUET, _ENCRYPTED_PARQUET) and b"\0" in first):
        _require_whole_parquet(path, head)
        return SourceFile(path, name, FileKind.PARQUET, given_path)
    if ending == ".gz" and head:
        raise InputError("is not gzip, whatever its name says", "take .gz off its name if it is text")
    return SourceFile(path, name, FileKind.TEXT, given_path)


def _require_whole_parquet(path: Path, head: bytes) -> None:
    """Raise InputError unless a file begins and ends as Parquet."""
    if head == _ENCRYPTED_PARQUET:
        raise InputError("is an encrypted Parquet file", "write it without encryption, or export it as CSV")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_PARQUET)))
        end = file.read()
    if head != _PARQUET:
        raise InputError("is not a Parquet file, whatever its name says", "name it .csv if it is text")
    if end != _PARQUET or size <= 2 * len(_PARQUET):
        raise InputError("is a Parquet file that was cut short", "fetch or make the file again")


def _is_workbook(path: Path) -> bool:
    """Return whether a zip archive is an Office file. Raises InputError for another one without a readable table.

    A broken archive counts as an Office file, because the reader of workbooks refuses it.
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
    """Return the only text file of an archive. Raises InputError if there is not exactly one, or it is unreadable."""
    tables = [
        member
        for member in package.infolist()
        if member.filename.lower().endswith(_TEXT_SUFFIXES)
        and not member.filename.startswith("__MACOSX/")
        and not member.filename.rpartition("/")[2].startswith(".")
    ]
    if len(tables) != 1:
        held = "no .csv, .tsv or .txt file" if not tables else f"{len(tables)} files"
        raise InputError(f"is a zip archive with {held} in it", "unzip it and name the files that are meant")
    (table,) = tables
    if table.flag_bits & _ENCRYPTED:
        raise InputError("is a zip archive with a password", "unzip it and name the file in it")
    if table.file_size > _MAX_UNPACKED_BYTES:
        raise InputError(f"is a zip archive whose file unpacks to {table.file_size} bytes", "look what it holds")
    return table


def _spool_to_disk(source: BinaryIO, spool: Path, name: str) -> Path:
    """Copy to a file that can be read several times, by its owner only."""
    copy = spool / name
    try:
        spool.mkdir(parents=True, exist_ok=True)
        with open(copy, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
    except OSError as error:
        raise DiskError(f"{name} cannot be kept in {spool} ({error.strerror})", "free or name another disk") from error
    return copy


def _bytes_of(source: SourceFile) -> Iterator[bytes]:
    with source.open() as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _transcoded(source: SourceFile, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in _bytes_of(source):
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise InputError(f"is not {encoding} ({error})", "say the encoding with --encoding") from error


def _first_bad_byte(source: SourceFile) -> int | None:
    """Return the offset of the first byte that is not UTF-8; None if the whole file is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    try:
        for chunk in _bytes_of(source):
            pending = len(decoder.getstate()[0])
            if pending or not chunk.isascii():  # ASCII, as most chunks are, needs no decoding
                decoder.decode(chunk)
            read += len(chunk)
        pending = len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return read - pending + error.start
    return None
