"""Read the package of a workbook, a zip archive of XML parts, within limits.

A small file can unpack to any size, so the size of every part is checked before it is read, and
the elements of all parts are counted. Document type declarations, and with them entities,
are refused.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn, TypeAlias
from xml.parsers import expat

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.printable import printable

SEPARATOR: Final = "\n"
"""Separates the namespace and the local name of an element or attribute."""
MAX_MEMBERS: Final = 10_000
_MAX_UNPACKED_BYTES: Final = 64 << 20
_UNPACKED_PER_BYTE: Final = 100
_MAX_SMALL_PART_BYTES: Final = 16 << 20
_MAX_ELEMENTS: Final = 3_000_000
_ELEMENTS_PER_BYTE: Final = 6
_MAX_NAMES: Final = 10_000
_MAX_DEPTH: Final = 1_000
_CHUNK_BYTES: Final = 1 << 16
_MAX_TOKEN_BYTES: Final = 1 << 20
"""Longest tag or comment: the parser starts it anew with every chunk that does not complete it."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ADVICE: Final = "save it again as .xlsx, or as CSV"
_FOREIGN: Final = (
    ("xl/workbook.bin", "is a binary workbook (.xlsb)"),
    ("content.xml", "is an OpenDocument file"),
    ("word/document.xml", "is a Word document"),
    ("ppt/presentation.xml", "is a presentation"),
)


Start: TypeAlias = Callable[[dict[str, str]], None]
End: TypeAlias = Callable[[], None]


class Handler:
    """Handles the elements of a part in document order; `texts` collects the text.

    Counts the elements that have started and ended. `is_done` is whether the rest of the part may be ignored.
    """

    def __init__(self, starts: Mapping[str, Start], ends: Mapping[str, End]) -> None:
        self.started = 0
        self.ended = 0
        self.is_done = False
        self.texts: list[str] = []
        self._starts = starts
        self._ends = ends

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Handle the start of an element."""
        self.started += 1
        handle = self._starts.get(name)
        if handle is not None:
            handle(attributes)

    def end(self, name: str) -> None:
        """Handle the end of an element."""
        self.ended += 1
        handle = self._ends.get(name)
        if handle is not None:
            handle()


@dataclass(slots=True)
class Package:
    """The parts of a workbook, and the limits for reading them.

    parts     name in lower case to the member of the archive
    unpacked  number of bytes that may still be unpacked
    elements  number of XML elements that may still be read
    """

    path: Path
    parts: dict[str, zipfile.ZipInfo]
    unpacked: int
    elements: int

    @classmethod
    def of(cls, path: Path) -> "Package":
        """List the parts of a workbook. Raises InputError for other files."""
        with translated_errors(), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            _refuse(f"{len(members):,} files are packed in it, {MAX_MEMBERS:,} at most are read")
        size = path.stat().st_size
        parts = {member.filename.replace("\\", "/").lstrip("/").lower(): member for member in members}
        for name, what in _FOREIGN:
            if name in parts:
                raise InputError(what, "save it as .xlsx, or as CSV")
        return cls(
            path, parts, _MAX_UNPACKED_BYTES + _UNPACKED_PER_BYTE * size, _MAX_ELEMENTS + _ELEMENTS_PER_BYTE * size
        )

    def relationships(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the type and the part of each relationship of a part, by its id."""
        path = PurePosixPath(part)
        rels = str(path.parent / "_rels" / f"{path.name}.rels")  # `_rels/.rels` for the package itself
        if rels.lower() not in self.parts:
            return {}
        return {
            one.get("Id", ""): (one.get("Type", "").rpartition("/")[2], _resolve(path.parent, one.get("Target", "")))
            for name, one in self.read_elements(rels)
            if name == "Relationship"
        }

    def read_elements(self, part: str) -> list[tuple[str, dict[str, str]]]:
        """Return every element of a small part: its local name, and its attributes by their local names."""
        elements = _Elements()
        for _ in self.read(part, elements, max_bytes=_MAX_SMALL_PART_BYTES):
            pass
        return elements.found

    def read(self, part: str, handler: Handler, max_bytes: int | None = None) -> Iterator[None]:
        """Parse a part, and yield after each chunk. Raises InputError for invalid XML and beyond a limit.

        After the handler is done the rest is not parsed, but read, so that the checksum is verified.
        """
        member = self.parts.get(part.lower())
        if member is None:
            _refuse(f"its part {part} is missing")
        self._allow(member, max_bytes)
        with translated_errors(part), zipfile.ZipFile(self.path) as archive, archive.open(member) as packed:
            yield from self._parsed(packed.read, handler)

    def _allow(self, member: zipfile.ZipInfo, max_bytes: int | None) -> None:
        """Subtract the size of a part from the bytes that may be unpacked. Raises InputError beyond the limit."""
        if member.flag_bits & 1 or member.compress_type not in _METHODS:
            _refuse(f"its part {member.filename} is encrypted or packed in an unusual way")
        self.unpacked -= member.file_size
        if self.unpacked < 0 or (max_bytes is not None and member.file_size > max_bytes):
            _refuse(f"its part {member.filename} would unpack to {member.file_size:,} bytes")

    def _parsed(self, read: Callable[[int], bytes], handler: Handler) -> Iterator[None]:
        parsing = _Parsing(handler, self.elements)
        try:
            while chunk := read(_CHUNK_BYTES):
                if not handler.is_done:
                    parsing.feed(chunk)
                    yield
            if not handler.is_done:
                parsing.feed(b"", final=True)
                yield
        finally:
            self.elements -= handler.started


@contextmanager
def translated_errors(part: str = "") -> Iterator[None]:
    """Turn the errors of the zip and XML libraries into InputError."""
    try:
        yield
    except expat.ExpatError as error:
        _refuse(f"{part}: {error}")
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        _refuse(str(error) or "it is cut short")
    except (RuntimeError, ValueError, NotImplementedError, OverflowError, LookupError) as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    raise InputError(f"cannot be read as a workbook ({printable(why[:200])})", _ADVICE)


def _resolve(folder: PurePosixPath, target: str) -> str:
    """Return the name of the part for the target of a relationship."""
    names: list[str] = []
    path = target.replace("\\", "/")
    for name in path.split("/") if path.startswith("/") else [*folder.parts, *path.split("/")]:
        if name == "..":
            names = names[:-1]
        elif name not in ("", "."):
            names.append(name)
    return "/".join(names)


class _Parsing:
    """Parses one part; checks the limits after each chunk."""

    def __init__(self, handler: Handler, most_elements: int) -> None:
        self._handler = handler
        self._fed = 0
        self._most_elements = most_elements
        self._names: dict[str, str] = {}
        self._parser = expat.ParserCreate(None, SEPARATOR, intern=self._names)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = handler.start
        self._parser.EndElementHandler = handler.end
        self._parser.CharacterDataHandler = handler.texts.append
        self._parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        self._parser.Parse(chunk, final)
        self._fed += len(chunk)
        started = self._handler.started
        if started > self._most_elements:
            _refuse("it has more XML elements than its size allows")
        if started - self._handler.ended > _MAX_DEPTH or len(self._names) > _MAX_NAMES:
            _refuse("its XML is not that of a workbook")
        if not final and self._fed - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
            _refuse("its XML holds a tag or comment of more than a megabyte")

    def _doctype(self, *_: object) -> NoReturn:
        _refuse("its XML has a document type declaration")


class _Elements(Handler):
    """Collects all elements of a part."""

    def __init__(self) -> None:
        super().__init__({}, {})
        self.found: list[tuple[str, dict[str, str]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Collect an element."""
        self.started += 1
        local = {key.rpartition(SEPARATOR)[2]: value for key, value in attributes.items()}
        self.found.append((name.rpartition(SEPARATOR)[2], local))
