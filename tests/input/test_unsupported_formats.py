"""A file that is no table is refused with a message that names what it is and what to do."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.load import load

PAGE = "<html><body><table><tr><td>customerEmail</td></tr></table></body></html>"
MESSAGE = 'MIME-Version: 1.0\r\nContent-Type: multipart/related;\r\n boundary="x"\r\n\r\n--x\r\n'
OF_2003 = (
    '<?xml version="1.0"?>\n<?mso-application progid="Excel.Sheet"?>\n'
    '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"></Workbook>'
)


def compound_file(*streams: str) -> bytes:
    """Return a compound file with the directory entries of some streams."""
    entries = b"".join(name.encode("utf-16-le").ljust(64, b"\0") + bytes(64) for name in ("Root Entry", *streams))
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0") + entries.ljust(1024, b"\0")


def refusal(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        load([str(path)], InputOptions(), spool=folder)
    return str(refused.value)


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        (("EncryptionInfo", "EncryptedPackage"), "is an encrypted workbook"),
        (("DRMEncryptedTransform", "EncryptedPackage"), "is a rights-protected workbook"),
        (("Workbook", "\tDRMContent"), "is a rights-protected workbook"),
        (("Workbook",), "is an old workbook (.xls); open it in a spreadsheet and save it as .xlsx"),
        (("Book",), "is an old workbook (.xls); "),
        (("WordDocument",), "is a Word document"),
        ((), "is an old workbook (.xls) or another old Office file"),
        (("x" * 9 + "Workbook",), "another old Office file"),
    ],
)
@pytest.mark.parametrize("name", ["a.xlsx", "a.xls", "a.csv"])
def test_the_message_names_what_a_compound_file_is(
    tmp_path: Path, streams: tuple[str, ...], words: str, name: str
) -> None:
    assert words in refusal(tmp_path, name, compound_file(*streams))


@pytest.mark.parametrize("name", ["a.ods", "a.csv", "a.xlsx"])
def test_the_message_names_an_opendocument_file(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "made", "w") as package:
        package.writestr("content.xml", "<x/>")
    assert "is an OpenDocument file" in refusal(tmp_path, name, (tmp_path / "made").read_bytes())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PAGE, "is a web page"),
        ("\n <!DOCTYPE HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'>\n" + PAGE, "is a web page"),
        ('<?xml version="1.0"?>\n<!-- saved -->' + PAGE, "is a web page"),
        ("<TABLE border=1><tr>", "is a web page"),
        (MESSAGE, "is a web archive"),
        ("From: <Saved by Excel>\nSubject: x\n" + MESSAGE, "is a web archive"),
        (OF_2003, "is an XML spreadsheet of 2003"),
        ('<?xml version="1.0"?><rows/>', "is an XML document"),
        ("%PDF-1.7\n", "is a PDF document"),
        ("{\\rtf1\\ansi", "is an RTF document"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.xls", "a.xlsx", "a.csv", "a.csv.gz"])
def test_the_message_names_what_a_document_is(tmp_path: Path, text: str, words: str, encoding: str, name: str) -> None:
    content = text.encode(encoding)
    told = refusal(tmp_path, name, gzip.compress(content) if name.endswith(".gz") else content)
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "title", ["<b>,", "mime-version: what it is\n", "%PDF", "Content-Type: a\nTable <html>\n", "<"]
)
def test_a_title_that_resembles_a_document_is_read_as_text(tmp_path: Path, title: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{title}\ncustomerEmail,deviceIdentifier,action\na@b.cc,S1,assign\n")
    assert len(load([str(path)], InputOptions(), spool=tmp_path).rows) == 1


def test_a_long_unterminated_document_header_is_checked_fast(tmp_path: Path) -> None:
    assert "no header" in refusal(tmp_path, "a.csv", b"a:\n" * 4000)


ROWS = b"customerEmail,deviceIdentifier,action\na@b.cc,S1,assign\n"


def tar(form: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        member = tarfile.TarInfo("night.csv")
        member.size = len(ROWS)
        archive.addfile(member, io.BytesIO(ROWS))
    return packed.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar(tarfile.USTAR_FORMAT), "is a tar archive; unpack it and name the file that is meant"),
        (tar(tarfile.GNU_FORMAT), "is a tar archive; "),
        (tar(tarfile.PAX_FORMAT), "is a tar archive; "),
        (bz2.compress(ROWS), "is compressed with bzip2; unpack it, or compress it with gzip"),
        (lzma.compress(ROWS), "is compressed with xz; unpack it, or compress it with gzip"),
        (b"\x28\xb5\x2f\xfd\x24\x38", "is compressed with Zstandard; "),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7-Zip archive; "),
        (b"Rar!\x1a\x07\x01\0", "is a RAR archive; "),
    ],
    ids=["ustar", "gnu", "pax", "bzip2", "xz", "zstd", "7z", "rar"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.tar.gz", "a.zip"])
def test_the_message_names_what_an_archive_is(tmp_path: Path, content: bytes, words: str, name: str) -> None:
    packed = {"a.tar.gz": gzip.compress, "a.zip": lambda table: zipped("night.csv", table)}.get(name, bytes)
    assert refusal(tmp_path, name, packed(content)).startswith(f"{tmp_path / name}: {words}")


@pytest.mark.parametrize("pack", [gzip.compress, lambda table: zipped("night.csv", table)], ids=["gz", "zip"])
@pytest.mark.parametrize("again", [gzip.compress, lambda table: zipped("night.csv", table)], ids=["gz", "zip"])
def test_a_file_compressed_twice_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes], again: Callable[[bytes], bytes]
) -> None:
    name = "a.csv.gz" if again is gzip.compress else "a.zip"
    what = "compressed twice" if pack is gzip.compress else "a zip archive or workbook that was compressed again"
    assert refusal(tmp_path, name, again(pack(ROWS))) == f"{tmp_path / name}: is {what}; unpack it once"


@pytest.mark.parametrize("header", ["BZh,", "7z,", "Rar!,", "x" * 257 + "ustar,", "PK,"])
def test_a_header_that_begins_like_an_archive_is_read(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(f"{header}customerEmail,deviceIdentifier,action\nx,a@b.cc,S1,assign\n".encode()))
    assert len(load([str(path)], InputOptions(), spool=tmp_path).rows) == 1
