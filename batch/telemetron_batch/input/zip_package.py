"""A workbook's package: a zip of XML parts, opened and parsed only within limits.

A small file can unpack to any size, so every part is measured before it is read, and the
elements of all parts are counted. Document type declarations, and with them entities, are
refused. Knows nothing of sheets.
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
"""Stands between the namespace and the local name of an element or attribute."""
MOST_MEMBERS: Final = 10_000
_MOST_UNPACKED: Final = 64 << 20
_UNPACKED_PER_BYTE: Final = 100
_MOST_SMALL_PART: Final = 16 << 20
_MOST_ELEMENTS: Final = 3_000_000
_ELEMENTS_PER_BYTE: Final = 6
_MOST_NAMES: Final = 10_000
_MOST_DEPTH: Final = 1_000
_PIECE: Final = 1 << 16
_LONGEST_TOKEN: Final = 1 << 20
"""Bytes of a tag or comment: the parser begins with it anew at every piece that does not complete it."""
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
    """Takes what is found in a part, in the order in which it stands there; `texts` collects the text.

    Counts the elements that have started and ended. `is_done` says that the rest of the part means nothing.
    """

    def __init__(self, starts: Mapping[str, Start], ends: Mapping[str, End]) -> None:
        self.started = 0
        self.ended = 0
        self.is_done = False
        self.texts: list[str] = []
        self._starts = starts
        self._ends = ends

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        self.started += 1
        take = self._starts.get(name)
        if take is not None:
            take(attributes)

    def end(self, name: str) -> None:
        """Take the end of an element."""
        self.ended += 1
        take = self._ends.get(name)
        if take is not None:
            take()


@dataclass(slots=True)
class Package:
    """The parts of a workbook, and what reading them may still cost.

    parts     name in lower case to the member of the zip
    unpacked  bytes that may still be unpacked
    elements  XML elements that may still be read
    """

    path: Path
    parts: dict[str, zipfile.ZipInfo]
    unpacked: int
    elements: int

    @classmethod
    def of(cls, path: Path) -> "Package":
        """List the parts of a workbook. Raises InputError for what is none."""
        with translated_errors(), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            _refuse(f"{len(members):,} files are packed in it, {MOST_MEMBERS:,} at most are read")
        size = path.stat().st_size
        parts = {member.filename.replace("\\", "/").lstrip("/").lower(): member for member in members}
        for name, what in _FOREIGN:
            if name in parts:
                raise InputError(what, "save it as .xlsx, or as CSV")
        return cls(path, parts, _MOST_UNPACKED + _UNPACKED_PER_BYTE * size, _MOST_ELEMENTS + _ELEMENTS_PER_BYTE * size)

    def relationships(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the type and the part of each relationship of a part, by its id."""
        place = PurePosixPath(part)
        listed = str(place.parent / "_rels" / f"{place.name}.rels")  # of the package itself: `_rels/.rels`
        if listed.lower() not in self.parts:
            return {}
        return {
            one.get("Id", ""): (one.get("Type", "").rpartition("/")[2], _resolve(place.parent, one.get("Target", "")))
            for name, one in self.read_elements(listed)
            if name == "Relationship"
        }

    def read_elements(self, part: str) -> list[tuple[str, dict[str, str]]]:
        """Return every element of a small part: its local name, and its attributes by theirs."""
        elements = _Elements()
        for _ in self.read(part, elements, most=_MOST_SMALL_PART):
            pass
        return elements.found

    def read(self, part: str, handler: Handler, most: int | None = None) -> Iterator[None]:
        """Parse a part, with a pause after each piece. Raises InputError for what is not XML or beyond a limit.

        What follows after the handler is done is not parsed, but its checksum is verified.
        """
        member = self.parts.get(part.lower())
        if member is None:
            _refuse(f"its part {part} is missing")
        self._allow(member, most)
        with translated_errors(part), zipfile.ZipFile(self.path) as archive, archive.open(member) as packed:
            yield from self._parsed(packed.read, handler)

    def _allow(self, member: zipfile.ZipInfo, most: int | None) -> None:
        """Take the size of a part off what may be unpacked."""
        if member.flag_bits & 1 or member.compress_type not in _METHODS:
            _refuse(f"its part {member.filename} is encrypted or packed in an unusual way")
        self.unpacked -= member.file_size
        if self.unpacked < 0 or (most is not None and member.file_size > most):
            _refuse(f"its part {member.filename} would unpack to {member.file_size:,} bytes")

    def _parsed(self, read: Callable[[int], bytes], handler: Handler) -> Iterator[None]:
        parsing = _Parsing(handler, self.elements)
        try:
            while piece := read(_PIECE):
                if not handler.is_done:
                    parsing.feed(piece)
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
    """Return the name of the part that a relationship's target means."""
    names: list[str] = []
    path = target.replace("\\", "/")
    for name in path.split("/") if path.startswith("/") else [*folder.parts, *path.split("/")]:
        if name == "..":
            names = names[:-1]
        elif name not in ("", "."):
            names.append(name)
    return "/".join(names)


class _Parsing:
    """One part on its way through the parser, under limits that hold after each piece."""

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

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        self._parser.Parse(piece, final)
        self._fed += len(piece)
        started = self._handler.started
        if started > self._most_elements:
            _refuse("it has more XML elements than its size allows")
        if started - self._handler.ended > _MOST_DEPTH or len(self._names) > _MOST_NAMES:
            _refuse("its XML is not that of a workbook")
        if not final and self._fed - self._parser.CurrentByteIndex > _LONGEST_TOKEN:
            _refuse("its XML holds a tag or comment of more than a megabyte")

    def _doctype(self, *_: object) -> NoReturn:
        _refuse("its XML has a document type declaration")


class _Elements(Handler):
    """Collects all elements of a part."""

    def __init__(self) -> None:
        super().__init__({}, {})
        self.found: list[tuple[str, dict[str, str]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        self.started += 1
        local = {key.rpartition(SEPARATOR)[2]: value for key, value in attributes.items()}
        self.found.append((name.rpartition(SEPARATOR)[2], local))
