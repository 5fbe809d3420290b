"""The required headers decide the dialect of a file."""

import codecs
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.dialect import (
    DELIMITERS,
    Dialect,
    encoding_from_bom,
    find_dialect,
    find_sheet_header,
    requested_encoding,
    required_fields,
)
from telemetron_batch.input.header_names import ALIASES, folded_header

PLAIN = InputOptions()


def found(text: str, options: InputOptions = PLAIN) -> Dialect:
    return find_dialect(text.encode(), "utf-8", options)


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_is_the_one_under_which_the_headers_are_found(delimiter: str) -> None:
    dialect = found(delimiter.join(["Note, a; b", "Email", "Serial No", "Action"]).replace(", a; b", "") + "\n")
    assert dialect.delimiter == delimiter
    assert dialect.columns == {"customerEmail": 1, "deviceIdentifier": 2, "action": 3}


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("", 1),
        ("\n\n", 3),
        ("sep=;\r\n", 2),
        ("Device list as of 1.2.2024\n;;;;\n\n", 4),
        ('Report "5 inch, unclosed\n', 2),
        ('"Report, unclosed\n', 2),
        ("title\rtitle\r", 3),
        ("x\n" * 49, 50),
    ],
)
def test_lines_above_the_header_are_skipped(above: str, line: int) -> None:
    dialect = found(above + "customerEmail;deviceIdentifier;action\na@b.cc;S1;assign\n")
    assert dialect.header_line == line
    assert dialect.first_line == line + 1
    assert dialect.body_offset == len(above) + len("customerEmail;deviceIdentifier;action\n")


def test_a_header_below_line_fifty_is_not_found() -> None:
    with pytest.raises(InputError, match="first 50 lines"):
        found("x\n" * 50 + "customerEmail;deviceIdentifier;action\n")


def test_a_header_cell_may_span_lines() -> None:
    dialect = found('"Customer\nEmail","Serial\r\nNo",action\na@b.cc,S1,assign\n')
    assert (dialect.header_line, dialect.first_line) == (1, 4)
    assert dialect.header == ("Customer\nEmail", "Serial\r\nNo", "action")


@pytest.mark.parametrize(
    ("email", "device", "action"),
    [
        ("customerEmail", "deviceIdentifier", "action"),
        ("CUSTOMER_EMAIL", "device-identifier", "Action"),
        (" Customer E-Mail ", "Serial.No.", "Movement"),
        ("E-Mail", "MAC Address", "Movement Type"),
        ("\ufeffOwner Email", "\u200bIMEI", "Operation"),
        ("Customer", "Device ID", "ACTION"),
    ],
)
def test_headers_match_regardless_of_case_and_punctuation(email: str, device: str, action: str) -> None:
    dialect = found(f"{action}\t{device}\t{email}")
    assert dialect.columns == {"customerEmail": 2, "deviceIdentifier": 1, "action": 0}


def test_no_alias_means_two_fields() -> None:
    names = [folded_header(name) for field, aliases in ALIASES.items() for name in (field, *aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "header",
    [
        "Email,Mail,Serial,action",
        "customerEmail,customer_email,Serial,action",
        "Email,customerEmail,Serial,action",
        "customerEmail,customerEmail,Serial,action",
        "Email,MAC,IMEI,action",
    ],
)
def test_a_required_column_found_twice_is_refused_with_advice(header: str) -> None:
    with pytest.raises(InputError, match=r'found 2 times.*headers seen on line 1.*--column \w+="'):
        found(header + "\n")


def test_a_named_column_wins_over_two_aliases() -> None:
    options = InputOptions(columns={"customerEmail": "owner", "deviceIdentifier": "Tag "})
    dialect = found("Email,Owner,Serial,Tag,Movement\n", options)
    assert dialect.columns == {"customerEmail": 1, "deviceIdentifier": 3, "action": 4}


def test_a_column_named_for_one_field_is_not_taken_for_another() -> None:
    options = InputOptions(columns={"customerEmail": "Device"})
    assert found("Device,Serial,action\n", options).columns["deviceIdentifier"] == 1


def test_a_column_named_for_two_fields_is_refused() -> None:
    options = InputOptions(columns={"customerEmail": "X", "deviceIdentifier": "X"})
    with pytest.raises(ConfigError, match="both customerEmail and deviceIdentifier"):
        found("X,action\n", options)


def test_a_column_option_for_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match="customerMail"):
        found("Email,Serial,action\n", InputOptions(columns={"customerMail": "Email"}))


def test_a_missing_column_is_reported_with_the_headers_seen() -> None:
    with pytest.raises(InputError) as caught:
        found("Report\n\nKunde;Serial No;action\na@b.cc;S1;assign\n")
    assert str(caught.value) == (
        "no header with customerEmail in the first 50 lines; headers seen on line 3: "
        '"Kunde", "Serial No", "action" (delimiter ";", encoding utf-8); '
        'say which column it is, as in --column customerEmail="..."; '
        "or run telemetron-batch init FILE, which asks; or correct --delimiter or --encoding"
    )


def test_a_list_of_many_headers_seen_is_cut_short() -> None:
    with pytest.raises(InputError, match="and 5 more"):
        found("\t".join(["Email", "Serial", *map(str, range(23))]))


def test_a_missing_action_column_is_reported_with_the_option_for_all_rows() -> None:
    with pytest.raises(InputError, match="--action assign or --action unassign"):
        found("Email,Serial\n")


def test_with_an_action_for_all_rows_the_action_column_is_ignored_with_a_warning() -> None:
    dialect = found("Email,Serial,Movement\n", InputOptions(action=Action.UNASSIGN))
    assert "action" not in dialect.columns
    assert dialect.warnings == ('column "Movement" is not used: --action says that every row is to unassign',)
    assert found("Email,Serial\n", InputOptions(action=Action.ASSIGN)).warnings == ()


def test_a_device_type_is_required_only_if_devices_are_created() -> None:
    header = "Email,Serial,Type,action\n"
    assert "deviceType" not in found(header).columns
    assert found(header, InputOptions(auto_create_devices=True)).columns["deviceType"] == 2
    said = InputOptions(auto_create_devices=True, device_type="tracker")
    assert found(header, said).columns["deviceType"] == 2
    assert "deviceType" not in found("Email,Serial,action\n", said).columns
    with pytest.raises(InputError, match="--device-type for all rows"):
        found("Email,Serial,action\n", InputOptions(auto_create_devices=True))


def test_the_required_fields_follow_the_options() -> None:
    assert required_fields(PLAIN) == ("customerEmail", "deviceIdentifier", "action")
    assert required_fields(InputOptions(action=Action.ASSIGN)) == ("customerEmail", "deviceIdentifier")


@pytest.mark.parametrize(
    ("word", "delimiter"), [("tab", "\t"), ("\\t", "\t"), (";", ";"), ("Pipe", "|"), ("^", "^"), (":", ":")]
)
def test_a_requested_delimiter_wins(word: str, delimiter: str) -> None:
    dialect = found(delimiter.join(["Email", "Serial", "action"]), InputOptions(delimiter=word))
    assert dialect.delimiter == delimiter


@pytest.mark.parametrize("word", ["", "ab", '"', "\n", "é", "x", "5"])
def test_an_invalid_delimiter_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a delimiter"):
        found("Email,Serial,action\n", InputOptions(delimiter=word))


def test_text_without_any_line_has_no_header() -> None:
    with pytest.raises(InputError, match="no header"):
        found("")


def test_a_cell_too_large_for_a_header_is_skipped() -> None:
    assert found("x" * 200_000 + "\nEmail,Serial,action\n").header_line == 2


def test_a_header_may_end_with_columns_without_a_name() -> None:
    dialect = found("Email;Serial;action;;\n")
    assert (len(dialect.header), dialect.min_width) == (5, 3)


def test_a_sheet_has_a_header_but_no_delimiter() -> None:
    dialect = find_sheet_header([["Returns", "", ""], ["Email", "Serial", "action"]], PLAIN)
    assert (dialect.header_line, dialect.first_line, dialect.delimiter) == (2, 3, "")
    with pytest.raises(InputError, match='"Serial"; say which column it is'):
        find_sheet_header([["Email", "Serial"]], PLAIN)


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (codecs.BOM_UTF8 + b"a", "utf-8-sig"),
        (codecs.BOM_UTF16_LE + b"a\0", "utf-16-le"),
        (codecs.BOM_UTF16_BE + b"\0a", "utf-16-be"),
        ("Email\tSerial №\taction\n".encode("utf-16-le"), "utf-16-le"),
        ("Email\tSerial №\taction\n".encode("utf-16-be"), "utf-16-be"),
        (b"Email,Serial\0,action\n", None),
        (b"", None),
    ],
)
def test_the_first_bytes_show_the_encoding(head: bytes, encoding: str | None) -> None:
    assert encoding_from_bom(head) == encoding


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    assert requested_encoding("UTF8") == "utf-8"
    for name in ("klingon", "base64", "undefined", "x\0y"):
        with pytest.raises(ConfigError, match="no encoding"):
            requested_encoding(name)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_dialect_or_a_batch_error(head: bytes) -> None:
    encoding_from_bom(head)
    with pytest.raises(InputError):
        find_dialect(head, "utf-8", PLAIN)


def test_a_customer_number_beside_an_email_is_not_used_as_the_email() -> None:
    assert found("Customer,E-Mail,Serial,action\n").columns["customerEmail"] == 1


MARKED = st.lists(
    st.sampled_from(
        ["*", "[", "]", "(", ")", "(input)", "(Input)", "(x)", "[x]", "required", "Required", " ", "a", "\n"]
    ),
    max_size=12,
).map("".join)
MARKS = re.compile(r"(?:\s*(?:\*|\[[^\]]*\]|\((?!input\))[^)]*\)|(?<!\w)required))+\s*$", re.IGNORECASE)


@given(MARKED)
def test_marks_after_a_header_are_ignored(header: str) -> None:
    assume(not re.search(r"[\[(][^\])]*[\[(]", header))  # brackets in brackets may be read either way
    bare = MARKS.sub("", header) or header
    assert folded_header(header) == re.sub(r"[\s_.\-]+", "", bare).casefold()


def test_a_text_too_long_for_a_header_matches_no_other_header() -> None:
    assert folded_header(" x" * 500) == "x" * 500
    assert folded_header(" x" * 501) == " x" * 501
