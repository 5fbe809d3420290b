"""Search a folder for a text as somebody would who wants to find it: in every file, unpacked and decoded."""

import gzip
import io
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq


def places_with(folder: Path, *texts: str) -> list[str]:
    """Return the files below a folder, with what is in them, that contain one of these texts in any form."""
    return sorted({place for path in _files(folder) for place, content in _contents(path) if _has(content, texts)})


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]


def _has(content: bytes, texts: tuple[str, ...]) -> bool:
    lowered = content.lower()
    for text in (text.lower() for text in texts):
        entities = "".join(f"&#{ord(one)};" if one in "@'+" else one for one in text)
        forms = (text, quote(text, safe=""), quote(text), entities, text.replace("@", "\\u0040"))
        encodings = ("utf-8", "utf-16-le", "utf-16-be", "cp1252")
        if any(form.lower().encode(encoding, "replace") in lowered for form in forms for encoding in encodings):
            return True
    return False


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    yield str(path), content
    yield from _unpacked(str(path), content)
    if content.startswith(b"SQLite format 3\0"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in tables:
                for row in connection.execute(f"SELECT * FROM {table}"):
                    for value in row:
                        blob = value if isinstance(value, bytes) else str(value).encode()
                        yield f"{path}:{table}", blob
                        yield from _unpacked(f"{path}:{table}", blob)


def _unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as packed:
        for entry in packed.namelist():
            inner = packed.read(entry)
            yield f"{name}!{entry}", inner
            yield from _unpacked(f"{name}!{entry}", inner)
    for unpack in (gzip.decompress, zlib.decompress):
        with suppress(OSError, EOFError, zlib.error):
            yield f"{name}!", unpack(content)
    for read in (pa.ipc.open_stream, pa.ipc.open_file):
        with suppress(pa.ArrowInvalid, OSError):
            yield f"{name}!arrow", str(read(content).read_all().to_pydict()).encode()
    if content.startswith(b"PAR1"):
        yield f"{name}!parquet", str(pq.read_table(io.BytesIO(content)).to_pydict()).encode()
