"""JSON lines: every value arrives as it is written, and no line is lost."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions, Problem, Split
from telemetron_batch.input import json_lines
from telemetron_batch.input.json_lines import find_keys, read_records
from tests.input.test_load import PLAIN, Reading

ROW = '{"customerEmail":"a@b.cc","deviceIdentifier":"S1","action":"assign"}\n'


def read(folder: Path, text: str | bytes, options: InputOptions = PLAIN, name: str = "a.jsonl") -> Reading:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Reading(folder, path, options=options)


def line(device: str, more: str = "") -> str:
    return f'{{"customerEmail":"a@b.cc","deviceIdentifier":{device},"action":"assign"{more}}}\n'


def refused(folder: Path, text: str, name: str = "a.jsonl") -> str:
    with pytest.raises(InputError) as refusal:
        read(folder, text, name=name)
    return str(refusal.value)


def test_texts_and_whole_numbers_arrive_as_written(tmp_path: Path) -> None:
    devices = ['"0012"', '"1 2"', "12345678901234567890", "7", '"\\u0041\\n\\u00e9\\ud83d\\ude00"', '"NA"', '"TRUE"']
    reading = read(tmp_path, "".join(map(line, devices)))
    read_devices = [cells[1] for cells in reading.cells]
    assert read_devices == ["0012", "1 2", "12345678901234567890", "7", "A\né😀", "NA", "TRUE"]


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("1E5", "a number with a fraction or an exponent"),
        ("12.0", "a number with a fraction or an exponent"),
        ("1.5", "a number with a fraction or an exponent"),
        ("-5", "a negative number"),
        ("true", "a boolean"),
        ('["S1","S2"]', "a list or an object"),
        ('{"a":1.50}', "a list or an object"),
    ],
)
def test_an_identifier_that_is_no_text_and_no_whole_number_is_invalid(tmp_path: Path, device: str, kind: str) -> None:
    reading = read(tmp_path, ROW + line(device))
    assert reading.column("problem") == [0, Problem.CELL_VALUE]
    assert f"is {kind} in the file" in str(reading.column("detail")[1])
    assert reading.cells[1][1] == device


def test_a_list_is_never_sent_as_an_identifier(tmp_path: Path) -> None:
    options = InputOptions(allow_suspect=True)
    reading = read(tmp_path, line("1E5") + line('["S1"]'), options)
    assert reading.column("problem") == [0, Problem.CELL_VALUE]


def test_other_values_are_texts(tmp_path: Path) -> None:
    more = ',"a":1.50,"b":1e-7,"c":false,"d":null,"e":{"x": [1, 0.10, "é\\"", null, true], "y": {}},"f":[]'
    (cells,) = read(tmp_path, line('"S1"', more)).cells
    assert cells[3:] == ["1.50", "1e-7", "false", "", '{"x":[1,0.10,"é\\"",null,true],"y":{}}', "[]"]


def test_keys_may_differ_from_line_to_line(tmp_path: Path) -> None:
    text = '{"deviceIdentifier":"S1","customerEmail":"a@b.cc","action":"assign"}\n' + line('"S2"', ',"room":"7"')
    reading = read(tmp_path, text + '{"action":"assign","customerEmail":"a@b.cc"}\n')
    assert reading.file.header == ("deviceIdentifier", "customerEmail", "action", "room")
    assert reading.cells[:2] == [["S1", "a@b.cc", "assign", ""], ["S2", "a@b.cc", "assign", "7"]]
    assert reading.column("problem") == [0, 0, Problem.EMPTY_KEY]


def test_line_is_the_line_of_the_file(tmp_path: Path) -> None:
    reading = read(tmp_path, "\r\n" + ROW + " \n\n" + ROW.replace("\n", "\r\n") + "\x1a")
    assert reading.column("line") == [2, 5]
    assert (reading.file.header_line, reading.file.encoding, reading.file.delimiter) == (0, "jsonl", "")
    assert reading.file.warnings == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"customerEmail":"a@b.cc","deviceIdentifier":0012}', "Expecting ',' delimiter at character 47"),
        ('["a@b.cc","S9","assign"]', "not an object"),
        ('"S9"', "not an object"),
        ("{'customerEmail':'a@b.cc'}", "Expecting property name"),
        (ROW.strip() + ROW.strip(), "Extra data"),
        ('{"deviceIdentifier":"S1","deviceIdentifier":"S9"}', "one of its keys comes twice"),
        ('{"deviceIdentifier":"\\ud83d S9"}', "half a character"),
        ('{"deviceIdentifier":NaN}', "NaN is no JSON"),
        ('{"a":' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_not_one_object_is_invalid_and_the_others_are_read(tmp_path: Path, text: str, why: str) -> None:
    reading = read(tmp_path, ROW + text + "\n" + ROW)
    assert reading.column("problem") == [0, Problem.BROKEN_RECORD, 0]
    assert why in str(reading.column("detail")[1])
    assert reading.column("line") == [1, 2, 3]


def test_the_footer_of_a_query_tool_is_no_row(tmp_path: Path) -> None:
    reading = read(tmp_path, ROW + "\n(1 row affected)\n")
    assert reading.column("deviceIdentifier") == ["S1"]
    assert "1 line is no row" in reading.file.warnings[0]


def test_an_identifier_in_a_broken_line_can_still_hold_back_an_assign(tmp_path: Path) -> None:
    reading = read(tmp_path, ROW + '{"customerEmail":"b@b.cc","deviceIdentifier":"S9",\n')
    assert "S9" in reading.column("possibleIdentifiers")[1]  # type: ignore[operator]
    assert reading.column("action")[1] == -1


def test_a_last_line_that_was_cut_is_invalid_and_warned_of(tmp_path: Path) -> None:
    reading = read(tmp_path, ROW + ROW[:40])
    assert reading.column("problem") == [0, Problem.BROKEN_RECORD]
    assert "may have been cut short" in reading.file.warnings[0]
    with pytest.raises(InputError, match="may have been cut short"):
        read(tmp_path, ROW + ROW.strip(), InputOptions(last_line="refuse"))


def test_a_byte_order_mark_and_compression_change_nothing(tmp_path: Path) -> None:
    plain = read(tmp_path, ROW).cells
    assert read(tmp_path, b"\xef\xbb\xbf" + ROW.encode()).cells == plain
    assert read(tmp_path, ROW.encode("utf-16")).cells == plain
    assert read(tmp_path, gzip.compress(ROW.encode()), name="a.jsonl.gz").cells == plain
    assert read(tmp_path, ROW, name="export.txt").cells == plain


def test_text_that_is_not_utf_8_is_read_with_the_warning_of_other_texts(tmp_path: Path) -> None:
    reading = read(tmp_path, line('"S\xe9"').encode("latin-1"))
    assert "read as Windows-1252 on a guess" in reading.file.warnings[0]
    assert reading.column("problem") == [Problem.ENCODING]


def test_other_json_is_named_for_what_it_is(tmp_path: Path) -> None:
    assert "is a JSON array, not JSON lines; write one object a line (jq" in refused(tmp_path, f"[{ROW}]", "a.json")
    assert "is a JSON array" in refused(tmp_path, "\n [\n  {", "a.jsonl")
    assert "is JSON over several lines" in refused(tmp_path, json.dumps(json.loads(ROW), indent=2), "a.json")
    assert "is not JSON lines, whatever its name says" in refused(tmp_path, "customerEmail,x\n", "a.ndjson")
    assert "no column for action; columns seen: " in refused(tmp_path, '{"email":"a@b.cc","serial":"S1"}\n')


def test_aliases_and_named_columns_are_found_as_in_other_files(tmp_path: Path) -> None:
    text = '{"Kunde":"a@b.cc","Serial No":"S1;S2","Bewegung":"RET","Email":"x"}\n'
    options = InputOptions(
        columns={"customerEmail": "kunde", "action": "Bewegung"},
        action_words={"ret": Action.UNASSIGN},
        split=Split("deviceIdentifier"),
    )
    reading = read(tmp_path, text, options)
    assert reading.column("deviceIdentifier") == ["S1", "S2"]
    assert reading.column("customerEmail") == ["a@b.cc"] * 2


def test_a_trailer_gives_the_number_of_rows(tmp_path: Path) -> None:
    options = InputOptions(trailer_count=r'"rows": *([0-9]+)')
    reading = read(tmp_path, ROW + '{"type":"end","rows": 1}\n', options)
    assert (reading.file.trailer_count, reading.column("deviceIdentifier")) == (1, ["S1"])


def test_a_line_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_RECORD_BYTES", 1000)
    long = line('"S1"', f',"a":"{"x" * 2000}"').strip()
    assert "line 2 is longer than 1000 bytes" in refused(tmp_path, ROW + long)


def test_more_keys_than_columns_are_refused(tmp_path: Path) -> None:
    keys = ",".join(f'"S{number}":1' for number in range(16_385))
    assert "more than 16384 different keys" in refused(tmp_path, ROW + "{" + keys + "}\n")


@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1, max_size=5).filter(lambda key: key.strip() == key),
            st.one_of(st.text(max_size=20), st.integers(), st.none(), st.lists(st.integers(), max_size=3)),
            max_size=4,
        ),
        max_size=20,
    ),
    st.integers(1, 50),
    st.booleans(),
)
def test_what_json_writes_is_read_back_wherever_the_text_is_cut(
    records: list[dict[str, object]], size: int, ascii_only: bool
) -> None:
    text = "".join(json.dumps(one, ensure_ascii=ascii_only) + "\n" for one in records).encode()
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    keys = find_keys(chunks)
    assert keys == tuple(dict.fromkeys(key for one in records for key in one))
    dialect = json_lines.Dialect(delimiter="", header=keys, header_line=0, first_line=1, body_offset=0, columns={})
    found = [
        [cell.as_py() for cell in row]
        for block in read_records(chunks, keys, dialect, PLAIN)
        for row in zip(*block.cells.columns, strict=True)
    ]
    if keys:
        assert found == [[as_text(one.get(key)) for key in keys] for one in records]


def as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, separators=(",", ":"))
