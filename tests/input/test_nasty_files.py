"""Files as ERPs, spreadsheets and mail gateways really leave them: exactly the rows meant, or exactly why not."""

import codecs
import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions, Problem
from telemetron_batch.input.load import load
from telemetron_batch.rows.rows import RowBlock

H = "customerEmail,deviceIdentifier,action\n"
S = "customerEmail;deviceIdentifier;action\n"
R = "a@b.cc,S1,assign\n"
ZIPPED = gzip.compress((H + R).encode(), mtime=0)
Row = tuple[int, str, str]
"""Line, device, and the action or the name of the problem."""


@dataclass(frozen=True)
class Nasty:
    """A file with its expected rows or error message, and its expected warnings."""

    id: str
    content: str | bytes
    rows: tuple[Row, ...] = ()
    refused: str = ""
    warned: str = ""
    name: str = "erp.csv"
    options: dict[str, Any] = field(default_factory=dict)


ONE = ((2, "S1", "assign"),)
FILES = [
    # Encodings
    Nasty("SAP: UTF-16LE, BOM, TAB", codecs.BOM_UTF16_LE + (H + R).replace(",", "\t").encode("utf-16-le"), ONE),
    Nasty("UTF-16BE with BOM", codecs.BOM_UTF16_BE + (H + R).encode("utf-16-be"), ONE),
    Nasty("UTF-16LE without BOM, TAB", (H + R).replace(",", "\t").encode("utf-16-le"), ONE),
    Nasty("Oracle: UTF-8 BOM", codecs.BOM_UTF8 + (H + R).encode(), ONE),
    Nasty(
        "BOM, then quoted headers", codecs.BOM_UTF8 + b'"customerEmail","deviceIdentifier","action"\n' + R.encode(), ONE
    ),
    Nasty("two BOMs, of a file joined twice", codecs.BOM_UTF8 * 2 + (H + R).encode(), ONE),
    Nasty(
        "Windows-1252 letters beside the keys",
        ("Ort," + H + "Köln," + R).encode("cp1252"),
        ONE,
        warned="read as Windows-1252 on a guess",
    ),
    Nasty(
        "Windows-1252 letters in a key",
        (H + "a@b.cc,Gerät1,assign\n" + R).encode("cp1252"),
        ((2, "Gerät1", "ENCODING"), (3, "S1", "assign")),
        warned="on a guess",
    ),
    Nasty(
        "NAV: OEM code page in a key, unsaid",
        (H + "a@b.cc,Gerät,assign\n").encode("cp850"),
        ((2, "Ger„t", "ENCODING"),),
        warned="on a guess",
    ),
    Nasty(
        "NAV: OEM code page, said",
        (H + "a@b.cc,Gerät,assign\n").encode("cp850"),
        ((2, "Gerät", "assign"),),
        options={"encoding": "cp850"},
    ),
    Nasty(
        "Sage: ISO-8859-15, TAB, company first",
        ("Müller & Co\n" + H + R).replace(",", "\t").encode("iso-8859-15"),
        ((3, "S1", "assign"),),
        options={"encoding": "iso-8859-15"},
    ),
    Nasty("UTF-8 said to be UTF-16", (H + R).encode() + b"x", refused="is not utf-16", options={"encoding": "utf-16"}),
    Nasty(
        "half a UTF-8 letter at the end",
        (H + R).encode() + b"a@b.cc,S2,\xc3",
        ((2, "S1", "assign"), (3, "S2", "ENCODING")),
        warned="on a guess",
    ),
    # Delimiters
    *(
        Nasty(f"delimiter {name}", (H + R).replace(",", sign), ONE)
        for name, sign in {"semicolon": ";", "tab": "\t", "pipe": "|"}.items()
    ),
    Nasty(
        "commas in titles, semicolons in rows",
        "Report, of 1.2.2025, all\n" + S + "a@b.cc;S1;assign\n",
        ((3, "S1", "assign"),),
    ),
    Nasty("sep=; on the first line", "sep=;\n" + S + "a@b.cc;S1;assign\n", ((3, "S1", "assign"),)),
    Nasty("decimal commas beside semicolons", "Preis;" + S + "1,50;a@b.cc;S1;assign\n", ONE),
    Nasty("a colon is no delimiter of ours", (H + R).replace(",", ":"), refused="no header with customerEmail"),
    Nasty("the delimiter said wrong", H + R, refused="headers seen on line 1", options={"delimiter": ";"}),
    Nasty(
        "single quotes are letters",
        "customerEmail,deviceIdentifier,action\n'a@b.cc',S1,assign\n",
        ((2, "S1", "assign"),),
    ),
    # Above and below the rows
    Nasty(
        "SAP list: header on line 4, pipes around",
        "Liste\n\n-----\n|customerEmail|deviceIdentifier|action|\n|a@b.cc|S1|assign|\n",
        ((5, "S1", "assign"),),
    ),
    Nasty("title, filler lines", "Devices;;;\n;;;\n;;;\n" + S + "a@b.cc;S1;assign\n", ((5, "S1", "assign"),)),
    Nasty("header beyond line 50", "x\n" * 50 + H + R, refused="in the first 50 lines"),
    Nasty("no header at all", R * 3, refused="no header with customerEmail"),
    Nasty(
        "the header again in mid file",
        H + R + H + R,
        ((2, "S1", "assign"), (4, "S1", "assign")),
        warned="a header again, a footer, a closing line or a page break (first on line 3)",
    ),
    Nasty("Total at the end", H + R + "Total,1,\n", ONE, warned='the last one is "Total 1"'),
    Nasty("T1,63", H + R + "T1,63\n", ONE, warned='the last one is "T1 63"'),
    Nasty(
        "F,<count>, counted", H + R + "F,1\n", ONE, warned="it says 1 rows", options={"trailer_count": "^F,([0-9]+)"}
    ),
    Nasty(
        "a trailer that is not there",
        H + R,
        refused="no trailer as --trailer-count",
        options={"trailer_count": "^F,([0-9]+)"},
    ),
    Nasty("Total with an amount", S + "a@b.cc;S1;assign\nTotal;;;;10,700.74\n", ONE, warned="10,700.74"),
    Nasty(
        "a second table below",
        H + R + "\nsite,city\n7,Oslo\n",
        ((2, "S1", "assign"), (4, "", "CELL_COUNT"), (5, "", "CELL_COUNT")),
    ),
    Nasty("Ctrl-Z at the end", H + R + "\x1a", ONE),
    Nasty("Ctrl-Z and padding", H + R + "\x1a\r\n\x1a\x1a\n", ONE),
    Nasty("blank lines everywhere", "\n\n" + H + "\n" + R + "\n \n,,\n", ((5, "S1", "assign"),)),
    Nasty("no line end at the end", H + R[:-1], ONE, warned="may have been cut short"),
    Nasty("old Mac line ends", (H + R).replace("\n", "\r"), ONE),
    Nasty(
        "line ends mixed",
        H.replace("\n", "\r\n") + R + R.replace("\n", "\r") + R,
        ((2, "S1", "assign"), (3, "S1", "assign"), (4, "S1", "assign")),
    ),
    Nasty("CR CR LF of a file converted twice", (H + R).replace("\n", "\r\r\n"), ((3, "S1", "assign"),)),
    # Widths
    Nasty(
        "every row ends with an empty cell",
        H + "a@b.cc,S1,assign,\na@b.cc,S2,assign,\n",
        ((2, "S1", "assign"), (3, "S2", "assign")),
    ),
    Nasty(
        "the first row has a cell more", H + "x,a@b.cc,S1,assign\n" + R, ((2, "", "CELL_COUNT"), (3, "S1", "assign"))
    ),
    Nasty(
        "an unquoted comma in a name",
        "name," + H + "Smith, Joe,a@b.cc,S1,assign\n" + "Joe," + R,
        ((2, "", "CELL_COUNT"), (3, "S1", "assign")),
    ),
    Nasty("a short row", H + "a@b.cc,S1\n" + R, ((2, "", "CELL_COUNT"), (3, "S1", "assign"))),
    Nasty(
        "two physical lines for a record", H + "a@b.cc,\nS1,assign\n", ((2, "", "CELL_COUNT"), (3, "", "CELL_COUNT"))
    ),
    Nasty(
        "headers found twice",
        "E-Mail,Mail,Serial,Action\na@b.cc,d@e.ff,S1,add\n",
        refused='customerEmail is found 2 times, as "E-Mail" and "Mail"',
    ),
    Nasty("no action column", "Email,Serial\na@b.cc,S1\n", refused="--action assign or --action unassign"),
    Nasty(
        "no action column, action said",
        "Email,Serial\na@b.cc,S1\n",
        ((2, "S1", "unassign"),),
        options={"action": Action.UNASSIGN},
    ),
    Nasty("line ends in headers", '"cust\nmail","x\ty",p,q\n' + R, refused='"cust\\nmail", "x\\ty"'),
    # Quotes
    Nasty("a quote never closed", H + 'a@b.cc,"S1,assign\n', refused="opens on line 2 is never closed"),
    Nasty(
        "inches that swallow rows",
        "note," + H + '"5 inch,' + R + "x," + R + '"7 inch,' + R,
        refused="opens on line 2 has swallowed whole rows",
    ),
    Nasty("inches in mid cell", "note," + H + '5" disk,' + R, ONE),
    Nasty(
        "a line end in a quoted cell",
        "note," + H + '"one\ntwo",' + R + "x," + R,
        ((2, "S1", "assign"), (4, "S1", "assign")),
    ),
    Nasty("text after a closing quote", H + '"a@b.cc"x,S1,assign\n' + R, ((2, "S1", "assign"), (3, "S1", "assign"))),
    Nasty("doubled quotes", H + 'a@b.cc,"S""1",assign\n', ((2, 'S"1', "assign"),)),
    # Cells that readers like to change
    *(
        Nasty(f"serial {text}", H + f"a@b.cc,{text},assign\n", ((2, text, "assign"),))
        for text in (
            "0012345",
            "12E45",
            "1E400",
            "TRUE",
            "nan",
            "inf",
            "1_000",
            "155.22-",
            "0x1F",
            "00144099",
        )
    ),
    *(
        Nasty(
            f"serial {text}",
            H + f"a@b.cc,{text},assign\n",
            ((2, text, "assign"),),
            warned=f'(first "{text}" on line 2)',
        )
        for text in ("NA", "N/A", "null", "None")
    ),
    *(
        Nasty(
            f"damaged {text}",
            H + f'a@b.cc,"{text}",assign\na@b.cc,SN-2,assign\n',
            ((2, text, "DAMAGED"), (3, "SN-2", "assign")),
        )
        for text in (
            "1.23E+11",
            "1,23E+11",
            "490154203230000000",
            "#N/A",
            "#REF!",
            "12.03.2025",
            "2025-03-12",
            "Mar-12",
            "12-Mar",
            "3/12/2025",
        )
    ),
    Nasty('="0000100"', H + 'a@b.cc,="0000100",assign\n', ((2, "0000100", "assign"),)),
    Nasty('="0000100" quoted', H + 'a@b.cc,"=""0000100""",assign\n', ((2, "0000100", "assign"),)),
    Nasty("a formula", H + "a@b.cc,=A1+A2,assign\n", ((2, "=A1+A2", "FORMULA"),)),
    Nasty("space padding", H + "a@b.cc   ,  S1      ,assign  \n", ONE),
    Nasty("no-break and zero-width spaces", H + "\u00a0a@b.cc\u200b,\ufeffS1\u00a0,assign\u200b\n", ONE),
    Nasty("a zero-width space inside", H + "a@b.cc,S\u200b1,assign\n", ((2, "S\u200b1", "CONTROL"),)),
    Nasty("a NUL byte", H + "a@b.cc,S\0001,assign\n" + R, ((2, "S\x001", "CONTROL"), (3, "S1", "assign"))),
    Nasty(
        "serials of dates are dates",
        H + "a@b.cc,12.03.2025,assign\na@b.cc,13.03.2025,assign\n",
        ((2, "12.03.2025", "assign"), (3, "13.03.2025", "assign")),
    ),
    Nasty(
        "serials that have lost zeros",
        H + "".join(f"a@b.cc,{serial},assign\n" for serial in (*range(1000, 1010), 7)),
        (*((at, str(998 + at), "assign") for at in range(2, 12)), (12, "7", "assign")),
        warned="1 serial of digits is shorter than the usual 4 (first on line 12)",
    ),
    Nasty(
        "MAC addresses keep their spelling",
        H + "a@b.cc,aa:bb:cc:dd:ee:ff,assign\na@b.cc,AABB.CCDD.EEFF,assign\na@b.cc,1:2:fe:b:d:12,assign\n",
        ((2, "aa:bb:cc:dd:ee:ff", "assign"), (3, "AABB.CCDD.EEFF", "assign"), (4, "1:2:fe:b:d:12", "assign")),
    ),
    Nasty("a display name around an address", H + "Joe <a@b.cc>,S1,assign\n", ((2, "S1", "EMAIL"),)),
    Nasty("two addresses in a cell", H + "a@b.cc;d@e.ff,S1,assign\n", ((2, "S1", "EMAIL"),)),
    Nasty("no customer", H + ",S1,assign\n", ((2, "S1", "EMPTY_KEY"),)),
    Nasty("an action nobody knows", H + "a@b.cc,S1,scrap\n", ((2, "S1", "ACTION"),)),
    # Kinds of file
    Nasty("gzip under the name of text", ZIPPED, ONE),
    Nasty("text under the name of gzip", H + R, refused="is not gzip, whatever its name says", name="erp.csv.gz"),
    Nasty("gzip cut short", ZIPPED[:-6], refused="broken gzip file", name="erp.csv.gz"),
    Nasty("an old workbook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", refused="old workbook", name="erp.xls"),
    Nasty("text under the name of a workbook", H + R, refused="is not a workbook", name="erp.xlsx"),
    Nasty("a web page saved as CSV", "<html><body>Session expired</body></html>\n", refused="is a web page"),
    Nasty("a JSON document", '{"rows": []}', refused="no column for customerEmail"),
    Nasty("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xff\xfe", refused="no header"),
    Nasty("nothing", b"", warned="the file is empty"),
    Nasty("only a BOM", codecs.BOM_UTF8, warned="the file is empty"),
    Nasty("only a header", H),
]


def read(folder: Path, nasty: Nasty) -> tuple[tuple[Row, ...], str]:
    path = folder / nasty.name
    path.write_bytes(nasty.content.encode() if isinstance(nasty.content, str) else nasty.content)
    blocks: list[RowBlock] = []
    loaded = load([str(path)], InputOptions(**nasty.options), spool=folder, sink=blocks)
    keys = [row for block in blocks for row in block.keys.to_pylist()]
    rows = tuple(
        (
            row["line"],
            row["deviceIdentifier"],
            Problem(row["problem"]).name if row["problem"] else ACTIONS[row["action"]].value,
        )
        for row in keys
    )
    return rows, "; ".join(loaded.files[0].warnings)


@pytest.mark.parametrize("nasty", [one for one in FILES if not one.refused], ids=lambda one: one.id)
def test_a_nasty_file_gives_exactly_the_rows_it_means(nasty: Nasty, tmp_path: Path) -> None:
    rows, warnings = read(tmp_path, nasty)
    assert rows == nasty.rows
    assert nasty.warned in warnings
    assert bool(warnings) == bool(nasty.warned)


@pytest.mark.parametrize("nasty", [one for one in FILES if one.refused], ids=lambda one: one.id)
def test_a_nasty_file_is_refused_with_its_message(nasty: Nasty, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read(tmp_path, nasty)
    assert nasty.refused in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_there_are_many_nasty_files_and_all_differ() -> None:
    assert len(FILES) >= 50
    assert len({nasty.id for nasty in FILES}) == len(FILES)
