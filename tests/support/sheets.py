"""Make workbooks from the XML of their parts, for content that no library writes."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"
STYLES = "xl/styles.xml"
BOOK = "xl/workbook.xml"
HEAD = ("customerEmail", "deviceIdentifier", "action")
FORMATS = ("General", "00000000", "yyyy-mm-dd", "[h]:mm", '"SN-"0000')


def text(place: str, content: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t>{content}</t></is></c>'


def row(line: int, *cells: str, more: str = "") -> str:
    """Return a row whose cells are texts, or XML that begins with `<`."""
    xml = "".join(cell if cell[:1] == "<" else text(f"{chr(65 + at)}{line}", cell) for at, cell in enumerate(cells))
    return f'<row r="{line}"{more}>{xml}</row>'


def device(line: int, cell: str, more: str = "") -> str:
    """Return a row whose identifier is this XML, a cell without its reference."""
    return row(line, "a@b.cc", cell.replace("<c", f'<c r="B{line}"', 1), "assign", more=more)


def sheet(*rows: str, namespace: str = MAIN) -> str:
    return f'<worksheet xmlns="{namespace}"><sheetData>{row(1, *HEAD)}{"".join(rows)}</sheetData></worksheet>'


def _related(*targets: tuple[str, str]) -> str:
    one = '<Relationship Id="r{}" Type="{}/{}" Target="{}"/>'
    listed = "".join(one.format(at, RELATION, kind, target) for at, (kind, target) in enumerate(targets, start=1))
    return f'<Relationships xmlns="{PACKAGE}">{listed}</Relationships>'


def styles() -> str:
    formats = "".join(
        f'<numFmt numFmtId="{200 + at}" formatCode="{code.replace(chr(34), "&quot;")}"/>'
        for at, code in enumerate(FORMATS)
    )
    cells = "".join(f'<xf numFmtId="{200 + at}"/>' for at in range(len(FORMATS)))
    return (
        f'<styleSheet xmlns="{MAIN}"><numFmts>{formats}</numFmts><cellStyleXfs><xf numFmtId="14"/></cellStyleXfs>'
        f"<cellXfs>{cells}</cellXfs></styleSheet>"
    )


def parts(sheet_xml: str, strings: str = "", settings: str = "") -> dict[str, str]:
    """Return the parts of a workbook with one sheet."""
    return {
        "_rels/.rels": _related(("officeDocument", BOOK)),
        BOOK: f'<workbook xmlns="{MAIN}" xmlns:r="{RELATION}">{settings}'
        '<sheets><sheet name="Data" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _related(
            ("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml"), ("styles", "styles.xml")
        ),
        STRINGS: f'<sst xmlns="{MAIN}">{strings}</sst>',
        STYLES: styles(),
        SHEET: sheet_xml,
    }


def packed(path: Path, contents: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in contents.items():
            package.writestr(name, content)
    return path


def book(path: Path, *rows: str, **more: str) -> Path:
    """Return a workbook with the usual header and these rows."""
    return packed(path, parts(sheet(*rows), **more))
