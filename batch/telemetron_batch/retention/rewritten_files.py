"""Replace addresses in files: texts of any encoding, Arrow and Parquet files, and what ZIP and gzip files hold."""

import gzip
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.text_rewriter import rewrite_batch
from telemetron_batch.retention.addresses import AddressRewriter
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.file_system import NO_LINK, NO_WAIT
from telemetron_batch.storage.trusted_folders import open_file

_ZIP: Final = b"PK\x03\x04"
_GZIP: Final = b"\x1f\x8b"
_ARROW: Final = b"ARROW1"
_PARQUET: Final = b"PAR1"
_PIECE: Final = 4 << 20
_MAX_NESTING: Final = 3


def file_holds(path: Path, rewriter: AddressRewriter) -> bool:
    """Return whether a file has an address that a rewriter replaces. Raises JournalError if it cannot be unpacked."""
    with _opened(path, os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT)) as file:
        return any(old is not new for old, new in _rewritten(file, rewriter))


def rewrite_file(path: Path, rewriter: AddressRewriter) -> None:
    """Replace the addresses in a file that is ours. Raises JournalError if it cannot be unpacked, and DiskError."""
    with _opened(path, open_file(path, os.O_RDONLY)) as file, atomic_write(path) as target:
        for _, new in _rewritten(file, rewriter):
            target.write(new)


def rewritten_hash(path: Path, rewriter: AddressRewriter) -> str:
    """Return the SHA-256 that a file will have when its addresses are replaced. Raises as `file_holds`."""
    digest = hashlib.sha256()
    with _opened(path, open_file(path, os.O_RDONLY)) as file:
        for _, new in _rewritten(file, rewriter):
            digest.update(new)
    return digest.hexdigest()


@contextmanager
def _opened(path: Path, descriptor: int) -> Iterator[BinaryIO]:
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield file
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as exc:
            raise JournalError(f"{path} cannot be searched ({exc})", "search it yourself") from exc


def _rewritten(file: BinaryIO, rewriter: AddressRewriter) -> Iterator[tuple[bytes, bytes]]:
    """Yield the content of a file and what it becomes, piece by piece; the same object where nothing changes."""
    head = file.read(len(_ARROW))
    file.seek(0)
    if head.startswith((_ZIP, _GZIP, _ARROW, _PARQUET)):
        content = file.read()
        yield content, _unpacked(content, rewriter, 0)
        return
    for piece in _pieces(file):
        yield piece, rewriter.content(piece)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a text in pieces of whole lines."""
    rest = b""
    while piece := file.read(_PIECE):
        whole, end, more = piece.rpartition(b"\n")
        if end and more.startswith(b"\0"):  # UTF-16: the end of a line has two bytes
            end, more = end + b"\0", more[1:]
        if end:
            yield rest + whole + end
            rest = more
        else:
            rest += piece
    if rest:
        yield rest


def _unpacked(content: bytes, rewriter: AddressRewriter, depth: int) -> bytes:
    """Return a content, which may be packed, with the addresses replaced; the same object if it has none."""
    if depth > _MAX_NESTING:
        raise ValueError("it is packed too many times")
    if content.startswith(_ZIP):
        return _zip(content, rewriter, depth)
    if content.startswith(_GZIP):
        plain = gzip.decompress(content)
        rewritten = _unpacked(plain, rewriter, depth + 1)
        return content if rewritten is plain else gzip.compress(rewritten, mtime=0)
    if content.startswith(_ARROW):
        return _arrow(content, rewriter)
    if content.startswith(_PARQUET):
        return _parquet(content, rewriter)
    return rewriter.content(content)


def _zip(content: bytes, rewriter: AddressRewriter, depth: int) -> bytes:
    target, is_changed = io.BytesIO(), rewriter.holds(content)  # also names and comments
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as packed:
        for entry in source.infolist():
            plain = source.read(entry)
            rewritten = _unpacked(plain, rewriter, depth + 1)
            is_changed = is_changed or rewritten is not plain
            copy = zipfile.ZipInfo(rewriter.text(entry.filename), entry.date_time)
            copy.compress_type, copy.external_attr = zipfile.ZIP_DEFLATED, entry.external_attr
            packed.writestr(copy, rewritten)
    return target.getvalue() if is_changed else content


def _arrow(content: bytes, rewriter: AddressRewriter) -> bytes:
    with pa.ipc.open_file(content) as source:
        before = [source.get_batch(number) for number in range(source.num_record_batches)]
        schema = source.schema
    after = [rewrite_batch(batch, rewriter) for batch in before]
    if all(new is old for new, old in zip(after, before, strict=True)):
        return content
    target = pa.BufferOutputStream()
    with pa.ipc.new_file(target, schema) as writer:
        for batch in after:
            writer.write_batch(batch)
    return bytes(target.getvalue())


def _parquet(content: bytes, rewriter: AddressRewriter) -> bytes:
    source = pq.ParquetFile(io.BytesIO(content))
    before = [*source.iter_batches()]
    after = [rewrite_batch(batch, rewriter) for batch in before]
    if all(new is old for new, old in zip(after, before, strict=True)):
        return content
    target = io.BytesIO()
    with pq.ParquetWriter(target, source.schema_arrow, compression="zstd") as writer:
        for batch in after:
            writer.write_batch(batch)
    return target.getvalue()
