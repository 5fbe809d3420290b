"""Key cells are normalized and validated; invalid ones get a message."""

import re
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetron_batch.domain.actions import UNKNOWN_ACTION, Action
from telemetron_batch.domain.model import InputOptions, Problem
from telemetron_batch.input import key_columns, validation
from telemetron_batch.input.action_words import ACTION_WORDS
from telemetron_batch.input.emails import are_emails
from telemetron_batch.input.excerpt import printable_excerpt
from telemetron_batch.input.normalize import normalize
from telemetron_batch.input.serials import DATE, MONTHS, SerialStatistics
from telemetron_batch.input.suspect_identifiers import reason_of
from telemetron_batch.input.validation import KeyCells, looks_like_row, validate_keys
from telemetron_batch.rows.rows import KEY_SCHEMA

PLAIN = InputOptions()
CREATE = InputOptions(auto_create_devices=True)


def judged(
    email: str = "a@b.cc",
    device: str = "S1",
    action: str | None = "assign",
    device_type: str | None = None,
    *,
    options: InputOptions = PLAIN,
    guessed: bool = False,
    faults: Mapping[int, str] | None = None,
) -> dict[str, object]:
    cells = KeyCells(
        lines=np.array([7]),
        email=pa.array([email]),
        device=pa.array([device]),
        action=None if action is None else pa.array([action]),
        device_type=None if device_type is None else pa.array([device_type]),
        width_errors=faults or {},
    )
    keys = validate_keys(cells, options, encoding_guessed=guessed)
    keys.validate(full=True)
    assert keys.schema == KEY_SCHEMA
    return dict(keys.to_pylist()[0])


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0012", "0012"),
        ("NA", "NA"),
        ("1E5", "1E5"),
        ("TRUE", "TRUE"),
        (" \t S 1 \u00a0", "S 1"),
        ("\u200bS1\ufeff\u200e", "S1"),
        ('="0012"', "0012"),
        ('=" 0012 "', "0012"),
        ('="a""b"', 'a"b'),
        ('\'="0012"', "0012"),
        ("'+49", "+49"),
        ("'-1", "-1"),
        ("'S1", "'S1"),
        ("''=x", "'=x"),
        ("'+x", "+x"),
        ("'5", "5"),
        ("''5", "5"),
        ("'0012345", "0012345"),
        ("'SN-1'", "SN-1"),
        ("' SN-1 '", "SN-1"),
        ('="\'-SN2"', "'-SN2"),
        ('="=""0012"""', "0012"),
        ("'\t 0012", "0012"),
        ("'\rx", "x"),
        ("aA:0f-1.2_3/\\ x", "aA:0f-1.2_3/\\ x"),
    ],
)
def test_an_identifier_is_trimmed_and_unwrapped_and_otherwise_as_written(written: str, read: str) -> None:
    row = judged(device=written)
    assert (row["deviceIdentifier"], row["problem"], row["detail"]) == (read, 0, "")


@pytest.mark.parametrize("written", [" User@Example.COM ", '="user@example.com"', "\ufeffuser@example.com\r\n"])
def test_an_email_is_trimmed_and_lowercased(written: str) -> None:
    assert judged(email=written)["customerEmail"] == "user@example.com"


@pytest.mark.parametrize(
    "email",
    [
        "a@b.cc",
        "a.b+c'd@x-y.example",
        "müller@bücher.example",
        "a@corp.local",
        "a@x.test",
        "a@xn--bcher-kva.xn--p1ai",
        "ü" * 246 + "@bcd.efg",
    ],
)
def test_an_email_with_one_at_and_a_dotted_domain_is_valid(email: str) -> None:
    assert judged(email=email)["problem"] == Problem.NONE


@pytest.mark.parametrize(
    "email",
    [
        "user(at)corp.example",
        "a@b",
        "a@@b.cc",
        "a@b@c.dd",
        "@b.cc",
        "a@.b.c",
        "a@b..c",
        "a@b.cc.",
        "a b@c.dd",
        "a@b.cc;d@e.ff",
        "A <a@b.cc>",
        "a@b.cc,",
        "a\u00a0b@c.dd",
        "a..b@docomo.example",
        ".a@b.cc",
        "a.@b.cc",
        "a@b.c",
        "a@b.c1",
        "a@-b.cc",
        "a@b-.cc",
        "a@b_c.dd",
        "a@o'brien.ie",
        "a@b.cc/",
        "'a@b.cc",
        "a@b.cc'",
        "mailto:a@b.cc",
        "<a@b.cc>",
        "a@b.cc!",
        "a@b.cc x",
        "a½@b.cc",
        "x" * 247 + "@bcd.efg",
    ],
)
def test_any_other_text_is_no_email(email: str) -> None:
    row = judged(email=email)
    assert row["problem"] == Problem.EMAIL
    assert "is not an email address" in str(row["detail"])


@pytest.mark.parametrize(
    "device",
    [
        "1.23457E+11",
        "1,23457E+11",
        "1.5E45",
        "1E+11",
        "12e-3",
        "-1.2E5",
        "4901542032370000000",
        "123456789012345000",
        "12345678.0",
        "359881030314356.0",
        "1.0",
        "#REF!",
        "#N/A",
        "#NAME?",
        "#VALUE!",
        "#DIV/0!",
        "#NULL!",
        "#NUM!",
        "#BEZUG!",
        "########",
    ],
)
def test_a_serial_damaged_by_a_spreadsheet_is_invalid_unless_allowed(device: str) -> None:
    row = judged(device=device)
    assert row["problem"] == Problem.DAMAGED
    assert "--allow-suspect" in str(row["detail"])
    assert judged(device=device, options=InputOptions(allow_suspect=True))["problem"] == Problem.NONE


def test_only_ascii_letters_of_an_address_are_lowercased() -> None:
    assert judged(email="MÜLLER@BÜCHER.Example")["customerEmail"] == "mÜller@bÜcher.example"


@pytest.mark.parametrize("cells", [{"email": "mÃ¼ller@b.cc"}, {"device": "GerÃ¤t-1"}, {"device": "SNâ€“1"}])
def test_text_that_was_decoded_twice_is_invalid(cells: dict[str, str]) -> None:
    for options in (PLAIN, InputOptions(allow_suspect=True)):
        row = judged(**cells, options=options)
        assert row["problem"] == Problem.DECODED_TWICE
        assert "was decoded twice" in str(row["detail"])


@pytest.mark.parametrize("space", ["\u00a0", "\u202f", "\u3000", "\u2009", "\u205f"])
def test_white_space_inside_an_identifier_that_is_no_blank_is_never_sent(space: str) -> None:
    row = judged(device=f"SN{space}1", options=InputOptions(allow_suspect=True))
    assert row["problem"] == Problem.MISPLACED_CHARACTERS
    assert "white space other than a blank inside" in str(row["detail"])


def judged_among(devices: list[str], options: InputOptions = PLAIN) -> list[int]:
    count = len(devices)
    cells = KeyCells(np.arange(count), pa.array(["a@b.cc"] * count), pa.array(devices), None, None, {})
    problems: list[int] = validate_keys(cells, options, encoding_guessed=False)["problem"].to_pylist()
    return problems


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("“SN-1”", "quotation marks"),
        ("\u2018SN-1\u2019", "quotation marks"),
        ("«SN-1»", "quotation marks"),
        ("`SN-1`", "quotation marks"),
        ('"SN-1"', "quotation marks"),
        ("'-SN1'", "quotation marks"),
        ("]C121SN-1", "prefix of a scanner"),
        ("(21)SN-1", "prefix of a scanner"),
        ("S/N: SN-1", "prefix of a scanner"),
        ("SN: SN-1", "prefix of a scanner"),
        ("SN:1234", "prefix of a scanner"),
        ("Serial No. #12", "prefix of a scanner"),
        ("IMEI:490154203237518", "prefix of a scanner"),
        ("*SN-1*", "prefix of a scanner"),
        ("1,234,567", "thousands separators"),
        ("1.234.567", "thousands separators"),
        ("1 234 567", "thousands separators"),
        ("S\u0415-1", "only look like"),
        ("\uff33\uff2e\uff0d\uff11", "only look like"),
        ("SN-\u0661\u0662", "only look like"),
        ("SN\u20131", "only look like"),
        ("SN\u20111", "only look like"),
        ("SN\uff0d1", "only look like"),
    ],
)
def test_characters_that_do_not_belong_in_an_identifier_are_invalid_unless_allowed(device: str, reason: str) -> None:
    others = ["SN-2", "1234567", "1234568", "SN-3"]
    assert judged_among([device, *others]) == [Problem.MISPLACED_CHARACTERS, 0, 0, 0, 0]
    assert judged_among([device, *others], InputOptions(allow_suspect=True)) == [0] * 5
    assert reason in str(reason_of(normalize(pa.array([device]))[0].as_py()))


@pytest.mark.parametrize(
    "devices",
    [
        ["\u0421\u0415\u0420-1", "\u0421\u0415\u0420-2"],
        ["1.234.567", "2.345.678"],
        ["SN\u20131", "SN\u20132"],
        ["12.345"],
        ["Gerät-1", "SN-2"],
        ['SN "3"', "SN(21)", "*7", "MACRO-1", "SNR-1", "aa:bb:cc:dd:ee:ff", "SN#12A"],
    ],
)
def test_characters_that_an_identifier_may_have_are_sent(devices: list[str]) -> None:
    problems = judged_among(devices)
    assert problems == [Problem.MISPLACED_CHARACTERS if device == "SN#12A" else 0 for device in devices]


@pytest.mark.parametrize(
    "cell",
    ["SR1; SR2", "SR1,SR2,SR3", "SR3 SR4", "SR5/SR6", "SR1|SR2", "SR1+SR2", "SR1;", "SR1/SR2/", "1234567, 1234568"],
)
def test_several_identifiers_in_a_cell_are_invalid(cell: str) -> None:
    expected = 0 if cell == "SR1;" else Problem.SEVERAL_IDENTIFIERS
    assert judged_among([cell, "SR7", "SR8", "SR9"])[0] == expected
    assert judged_among([cell, "SR7"], InputOptions(allow_suspect=True)) == [0, 0]


def test_several_identifiers_are_invalid_also_if_every_cell_has_several() -> None:
    assert judged_among(["SR1; SR2", "SR3 SR4", "SR5/SR6"]) == [Problem.SEVERAL_IDENTIFIERS] * 3


@pytest.mark.parametrize(
    "devices",
    [
        ["1234/5678", "2345/6789"],
        ["va2/ff298", "va3/ff298 b"],
        ["SR1 SR2", "SR3 SR4"],
        ["SN1234/01", "SN1"],
        ["aabb ccdd eeff", "SN-1"],
        ["aa/bb", "SN-1", "SN-2"],
        ["va2/ff298", "TS-24K-03429-A", "0000471"],
        ["va2/ff298", "fa04711", "fa04712"],
        ["HC 210", "HC-1", "HC-2"],
        ["AB 1", "AB1"],
    ],
)
def test_separators_inside_identifiers_are_valid(devices: list[str]) -> None:
    assert judged_among(devices) == [0] * len(devices)


@pytest.mark.parametrize(
    "name", ["To be filled by O.E.M.", "Default string", "N/A", "NULL", "(null)", "\\N", "unknown", "-", "0", "0000000"]
)
def test_a_placeholder_is_invalid_if_devices_are_created_unless_allowed(name: str) -> None:
    typed = InputOptions(auto_create_devices=True, device_type="x")
    assert judged(device=name)["problem"] == Problem.NONE
    assert judged(device=name, options=typed)["problem"] == Problem.PLACEHOLDER
    assert judged(device=name, options=replace(typed, allow_suspect=True))["problem"] == Problem.NONE
    assert judged(device=name + "7x", options=typed)["problem"] == Problem.NONE


@pytest.mark.parametrize(
    "device",
    [
        "0503E000",
        "12E45",
        "1E400",
        "123456789000000",
        "1234567890123456",
        "1234567890100000",
        "000000000000100000",
        "12.01",
        "SN-1.0",
        "#12",
        "#A",
        "1.2.3",
        "1-2E+3x",
        "490154203237518",
    ],
)
def test_a_serial_that_only_looks_odd_is_sent(device: str) -> None:
    assert judged(device=device)["problem"] == Problem.NONE


@pytest.mark.parametrize("device", ["=A1", "@SUM(1)", "'=A1", "'@x", '="a"b'])
def test_a_formula_is_invalid_unless_allowed(device: str) -> None:
    assert judged(device=device)["problem"] == Problem.FORMULA
    assert judged(device=device, options=InputOptions(allow_suspect=True))["problem"] == Problem.NONE


@pytest.mark.parametrize(
    "sign",
    [
        "\0",
        "\t",
        "\n",
        "\x1b",
        "\x7f",
        "\u0081",
        "\u200b",
        "\u202e",
        "\u061c",
        "\u034f",
        "\ufe0f",
        "\u3164",
        "\u206a",
        "\U000e0041",
    ],
)
def test_a_control_or_invisible_character_inside_is_invalid_even_when_suspects_are_allowed(sign: str) -> None:
    options = InputOptions(allow_suspect=True)
    for row in (
        judged(device=f"S{sign}1", options=options),
        judged(email=f"a{sign}@b.cc", options=options),
        judged(action=f"as{sign}sign", options=options),
    ):
        assert row["problem"] == Problem.CONTROL
        assert str(row["detail"]).isprintable()


def is_drawn_as_nothing(code: int) -> bool:
    """Return whether a character has category Cf or is default ignorable by the rules of Unicode."""
    name = unicodedata.name(chr(code), "")
    named = re.search("VARIATION SELECTOR|HANGUL.* FILLER|GRAPHEME JOINER|KHMER VOWEL INHERENT", name)
    reserved = code == 0x2065 or 0xFFF0 <= code <= 0xFFF8 or 0xE0000 <= code <= 0xE0FFF
    return bool(named) or reserved or unicodedata.category(chr(code)) == "Cf"


def test_every_invisible_character_is_invalid_inside_a_key() -> None:
    unseen = [chr(code) for code in range(sys.maxunicode + 1) if is_drawn_as_nothing(code)]
    assert len(unseen) > 4000
    problems = judged_among([f"S{sign}1" for sign in unseen])
    assert [ascii(sign) for sign, found in zip(unseen, problems, strict=True) if found != Problem.CONTROL] == []
    assert [ascii(sign) for sign in unseen if printable_excerpt(f"S{sign}1").isascii() is False] == []
    behind = normalize(pa.array([f"S1{sign}" for sign in unseen])).to_pylist()
    kept = [text for text in behind if text != "S1"]
    assert set(judged_among(kept)) == {Problem.CONTROL}


def test_a_key_has_at_most_256_characters() -> None:
    assert judged(device="é" * 256)["problem"] == Problem.NONE
    row = judged(device="é" * 257)
    assert row["problem"] == Problem.TOO_LONG
    assert len(str(row["detail"])) < 160


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        ({"email": " "}, "customerEmail"),
        ({"device": '=""'}, "deviceIdentifier"),
        ({"action": "\u200b"}, "action"),
    ],
)
def test_an_empty_key_cell_is_invalid_and_named(cells: dict[str, str], name: str) -> None:
    row = judged(**cells)
    assert row["problem"] == Problem.EMPTY_KEY
    assert str(row["detail"]).startswith(name)


@pytest.mark.parametrize("cells", [{"email": "ü@b.cc"}, {"device": "S\u00e9"}, {"device": "S1\u00a0"}, {"action": "é"}])
def test_other_letters_than_ascii_under_a_guessed_encoding_are_never_sent(cells: dict[str, str]) -> None:
    row = judged(**cells, guessed=True)
    assert row["problem"] == Problem.ENCODING
    assert "--encoding" in str(row["detail"])
    assert judged(guessed=True)["problem"] == Problem.NONE


@pytest.mark.parametrize(("word", "action"), ACTION_WORDS.items())
def test_built_in_action_words_count_in_any_case(word: str, action: Action) -> None:
    row = judged(action=f" {word.upper()} ")
    assert (row["action"], row["actionWord"], row["problem"]) == (action.code, word.upper(), 0)


def test_action_words_of_the_user_win_over_built_in_ones() -> None:
    options = InputOptions(action_words={"101": Action.ASSIGN, "return": Action.ASSIGN})
    assert judged(action="101", options=options)["action"] == Action.ASSIGN.code
    assert judged(action="Return", options=options)["action"] == Action.ASSIGN.code


def test_an_unknown_action_word_is_invalid_and_kept() -> None:
    row = judged(action="Transfer")
    assert (row["problem"], row["action"], row["actionWord"]) == (Problem.ACTION, UNKNOWN_ACTION, "Transfer")
    assert "--action-word" in str(row["detail"])


def test_an_action_for_all_rows_needs_no_word() -> None:
    row = judged(action=None, options=InputOptions(action=Action.UNASSIGN))
    assert (row["action"], row["actionWord"], row["problem"]) == (Action.UNASSIGN.code, "", 0)


def test_a_device_type_comes_from_the_cell_else_from_the_option() -> None:
    said = InputOptions(auto_create_devices=True, device_type="tracker")
    assert judged(device_type=" Lock ", options=CREATE)["deviceType"] == "Lock"
    assert judged(device_type=" ", options=said)["deviceType"] == "tracker"
    assert judged(device_type=None, options=said)["deviceType"] == "tracker"
    assert judged(device_type=None, options=InputOptions(device_type="tracker"))["deviceType"] == ""
    row = judged(device_type="", options=CREATE)
    assert row["problem"] == Problem.DEVICE_TYPE
    assert "--device-type" in str(row["detail"])


def test_the_most_important_problem_is_reported() -> None:
    wrong = {"email": "nobody", "device": "=1", "action": "x", "device_type": ""}
    order = [
        (Problem.CELL_COUNT, {"faults": {0: "2 cells"}, "device": ""}),
        (Problem.EMPTY_KEY, {"device": "", "email": "é"}),
        (Problem.ENCODING, {"device": "é\x01"}),
        (Problem.CONTROL, {"device": "\x01" + "x" * 300, "guessed": False}),
        (Problem.CONTROL, {"device": "=\x01" + "x" * 300, "guessed": False}),
        (Problem.TOO_LONG, {"device": "=" + "x" * 300}),
        (Problem.FORMULA, {}),
        (Problem.DAMAGED, {"device": "#REF!"}),
        (Problem.EMAIL, {"device": "S1"}),
        (Problem.ACTION, {"device": "S1", "email": "a@b.cc"}),
        (Problem.DEVICE_TYPE, {"device": "S1", "email": "a@b.cc", "action": "add"}),
    ]
    for problem, cells in order:
        row = judged(**{**wrong, "guessed": True, **cells}, options=CREATE)  # type: ignore[arg-type]
        assert row["problem"] == problem
        assert row["detail"]


def test_the_message_has_the_cell_the_problem_and_advice() -> None:
    assert judged(device="1.23457E+11")["detail"] == (
        'deviceIdentifier "1.23457E+11" was damaged by a spreadsheet (exponent); restore the serial in the '
        "source, or send it as it is with --allow-suspect"
    )
    assert judged(faults={0: "2 cells where the header has 3"})["detail"] == "2 cells where the header has 3"


def test_rows_that_share_a_bad_cell_each_have_the_sentence_about_it() -> None:
    devices = ["#REF!", "S1", "#REF!", "S2", "", "#REF!"]
    emails = ["a@b.cc", "no", "a@b.cc", "a@b.cc", "a@b.cc", "no"]
    faults = {3: "4 cells where the header has 3", 2: "2 cells where the header has 3"}
    cells = KeyCells(np.arange(6), pa.array(emails), pa.array(devices), None, None, faults)
    details = validate_keys(cells, InputOptions(action=Action.ASSIGN), encoding_guessed=False)["detail"].to_pylist()
    damaged, bad_email, empty = judged(device="#REF!"), judged(email="no"), judged(device="")
    expected = [damaged["detail"], bad_email["detail"], faults[2], faults[3], empty["detail"], damaged["detail"]]
    assert details == expected


def test_the_message_about_a_date_shows_another_serial() -> None:
    devices = pa.array(["SN-00012", "SN-00013", "12.03.2025"])
    cells = KeyCells(np.arange(3), pa.array(["a@b.cc"] * 3), devices, None, None, {})
    row = validate_keys(cells, InputOptions(action=Action.ASSIGN), encoding_guessed=False).to_pylist()[2]
    assert row["problem"] == Problem.DAMAGED
    assert '(date; other serials here look like "SN-00012"); restore' in row["detail"]
    allowed = validate_keys(cells, InputOptions(action=Action.ASSIGN, allow_suspect=True), encoding_guessed=False)
    assert allowed["problem"].to_pylist() == [0, 0, 0]


def test_a_given_profile_replaces_that_of_the_block() -> None:
    dates = SerialStatistics(pa.array(["11.03.2025", "12.03.2025"]))
    cells = KeyCells(np.arange(2), pa.array(["a@b.cc"] * 2), pa.array(["SN-1", "12.03.2025"]), None, None, {})
    assert validate_keys(cells, PLAIN, encoding_guessed=False)["problem"].to_pylist() == [0, Problem.DAMAGED]
    assert validate_keys(cells, PLAIN, encoding_guessed=False, serial_statistics=dates)["problem"].to_pylist() == [0, 0]


def test_a_cell_is_shortened_and_made_visible_in_messages() -> None:
    assert printable_excerpt("x" * 61) == "x" * 59 + "…"
    assert printable_excerpt("a\tb\u200b") == "a\\tb\\u200b"


@pytest.mark.parametrize(
    ("email", "action", "verdict"),
    [
        ("a@b.cc", None, True),
        ("x", "Assign ", True),
        ("x", "y", False),
        (" A@B.CC", "y", True),
        ("x", None, False),
    ],
)
def test_a_line_is_plausibly_a_row_by_its_email_or_its_action(email: str, action: str | None, verdict: bool) -> None:
    assert looks_like_row(email, action, ACTION_WORDS) is verdict


def test_no_rows_can_be_validated() -> None:
    nothing = pa.array([], pa.string())
    keys = validate_keys(
        KeyCells(np.empty(0, np.int64), nothing, nothing, nothing, nothing, {}), CREATE, encoding_guessed=True
    )
    assert (keys.num_rows, keys.schema) == (0, KEY_SCHEMA)


def test_a_slice_of_columns_is_validated_by_its_own_cells() -> None:
    devices = pa.array(["=1", " x", "S2", "=3"]).slice(1, 2)
    emails = pa.array(["?", "A@b.cc", "b", "?"]).slice(1, 2)
    keys = validate_keys(KeyCells(np.arange(2), emails, devices, None, None, {}), PLAIN, encoding_guessed=False)
    assert keys["deviceIdentifier"].to_pylist() == ["x", "S2"]
    assert keys["problem"].to_pylist() == [0, Problem.EMAIL]


REMARKABLE = (
    st.text(alphabet="0159eE+-.,#=@'\"/N!A \u00a0\u200b\0\té", max_size=20)
    | st.from_regex(DATE)
    | st.text(max_size=300)
)


@pytest.mark.parametrize("month", MONTHS.split("|"))
@pytest.mark.parametrize("form", ["{}-1900", "{}. 24", "3-{}", "31. {} 2025 23:59:59"])
def test_the_preselection_misses_no_date_of_any_month(month: str, form: str) -> None:
    for name in (month, month.title(), month.upper()):
        devices = pa.array(["0", form.format(name)])
        keys = validate_keys(
            KeyCells(np.arange(2), pa.array(["a@b.cc"] * 2), devices, None, None, {}), PLAIN, encoding_guessed=False
        )
        assert keys["problem"].to_pylist()[1] == Problem.DAMAGED, name


@given(st.lists(REMARKABLE, max_size=8), st.booleans())
@example(["SN-1", "12. août 2025 13:05:00", "Juil. 2025", "2025-03-12 00:00"], False)
@example(["0", "MRZ-1900"], False)
@example(["", "0" * 16, "1E+5", "x" * 257, "=", "#N/A", "1.5e5"], False)
@example(["4901542032375180", "49015420323751800", "490154203237518000", "4901542032375180010"], False)
def test_inspecting_only_suspicious_identifiers_misses_nothing(devices: list[str], guessed: bool) -> None:
    cells = KeyCells(
        np.arange(len(devices)),
        pa.array(["a@b.cc"] * len(devices), pa.string()),
        pa.array(devices, pa.string()),
        None,
        None,
        {},
    )
    quick = validate_keys(cells, PLAIN, encoding_guessed=guessed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "identifier_column", lambda name, raw, **_: key_columns.distinct_column(name, raw))
        assert quick.equals(validate_keys(cells, PLAIN, encoding_guessed=guessed))
    whole = normalize(pa.array(devices, pa.string()))
    assert quick["deviceIdentifier"].equals(whole)


LIKE_EMAILS = st.text(alphabet="aÉß@.,<\" \u00a0\u200b\0\t'=", max_size=10) | st.from_regex(r"[aB]{1,300}@b\.(c|É)\Z")


@given(st.lists(LIKE_EMAILS, max_size=8), st.booleans())
@example([" A@b.cc ", "a@b", "", "a" * 251 + "@b.cc", "É" * 250 + "@b.cc"], True)
def test_inspecting_only_suspicious_emails_misses_nothing(emails: list[str], guessed: bool) -> None:
    count = len(emails)
    devices = pa.array([f"SN-{at}" for at in range(count)], pa.string())
    cells = KeyCells(np.arange(count), pa.array(emails, pa.string()), devices, None, None, {})
    quick = validate_keys(cells, PLAIN, encoding_guessed=guessed)
    suspicious_subset = key_columns._suspicious_subset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            key_columns,
            "_suspicious_subset",
            lambda *column: suspicious_subset(*column[:-1], np.ones(count, np.bool_)),
        )
        assert quick.equals(validate_keys(cells, PLAIN, encoding_guessed=guessed))
    lower = pc.ascii_lower(normalize(pa.array(emails, pa.string())))
    assert quick["customerEmail"].equals(lower)
    assert quick["problem"].to_numpy()[~are_emails(lower)].all()


@given(st.lists(LIKE_EMAILS, max_size=8), st.booleans())
@example([" A@b.cc ", "a@b", "", "a" * 251 + "@b.cc", "É" * 250 + "@b.cc"], True)
def test_repeated_and_distinct_addresses_are_validated_alike(emails: list[str], guessed: bool) -> None:
    count = len(emails)
    devices = pa.array([f"SN-{at}" for at in range(count)], pa.string())
    cells = KeyCells(np.arange(count), pa.array(emails, pa.string()), devices, None, None, {})
    found = []
    for share in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(key_columns, "_FEW_DISTINCT", share)
            found.append(validate_keys(cells, PLAIN, encoding_guessed=guessed))
    assert found[0].equals(found[1])


def test_a_block_of_few_addresses_keeps_each_in_its_row() -> None:
    emails = [f"User{at % 7}@example.com" if at % 50 else "nobody" for at in range(500)]
    devices = pa.array([f"SN-{at}" for at in range(500)], pa.string())
    keys = validate_keys(
        KeyCells(np.arange(500), pa.array(emails), devices, None, None, {}), PLAIN, encoding_guessed=False
    )
    assert keys["customerEmail"].to_pylist() == [email.lower() for email in emails]
    assert np.flatnonzero(keys["problem"].to_numpy() == Problem.EMAIL).tolist() == [*range(0, 500, 50)]
