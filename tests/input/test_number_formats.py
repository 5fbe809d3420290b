"""A stored number becomes the text that its format shows, with the kind of its value."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetron_batch.input.number_formats import (
    GENERAL,
    CellKind,
    FormatKind,
    NumberFormat,
    calendar_offset,
    cell_formats,
    format_number,
    parse_format,
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("General", FormatKind.NUMBER),
        ("0", FormatKind.NUMBER),
        ("0.00", FormatKind.NUMBER),
        ("#,##0;[Red]-#,##0", FormatKind.NUMBER),
        ('0" days"', FormatKind.NUMBER),
        ("0%", FormatKind.NUMBER),
        ("0.00E+00", FormatKind.NUMBER),
        ("@", FormatKind.NUMBER),
        ("00000000", FormatKind.ZEROS),
        ("0000;-0000", FormatKind.ZEROS),
        ('"SN-"00000', FormatKind.MASK),
        ("000-00-0000", FormatKind.MASK),
        ("00\\ 00", FormatKind.MASK),
        ("yyyy-mm-dd", FormatKind.DATE),
        ("[$-407]d. mmmm yyyy;@", FormatKind.DATE),
        ("hh:mm", FormatKind.DATE),
        ("[h]:mm:ss", FormatKind.DURATION),
    ],
)
def test_a_format_is_known_by_its_code(code: str, kind: FormatKind) -> None:
    assert parse_format(code).kind is kind


def test_styles_have_their_own_formats_and_those_that_every_workbook_has() -> None:
    formats = cell_formats(["0", "14", "46", "164", "x"], {"164": "0000"})
    assert [one.kind for one in formats] == [
        FormatKind.NUMBER,
        FormatKind.DATE,
        FormatKind.DURATION,
        FormatKind.ZEROS,
        FormatKind.NUMBER,
    ]


@pytest.mark.parametrize(
    ("stored", "code", "shown", "kind"),
    [
        ("12", "General", "12", CellKind.PLAIN),
        ("12.0", "General", "12", CellKind.PLAIN),
        ("0012", "General", "12", CellKind.PLAIN),
        ("0", "General", "0", CellKind.PLAIN),
        ("1.2345678E7", "General", "12345678", CellKind.PLAIN),
        ("999999999999999", "General", "999999999999999", CellKind.PLAIN),
        ("1000000000000000", "General", "1000000000000000", CellKind.LONG_NUMBER),
        ("8.9445001021983048E+18", "General", "8944500102198304800", CellKind.LONG_NUMBER),
        ("1E22", "General", "10000000000000000000000", CellKind.LONG_NUMBER),
        ("-5", "General", "-5", CellKind.NEGATIVE),
        ("1.1000000000000001", "General", "1.1", CellKind.FRACTION),
        ("-1.0000000000000001E-5", "General", "-0.00001", CellKind.FRACTION),
        ("12342", "00000000", "00012342", CellKind.PADDED),
        ("12345678", "00000000", "12345678", CellKind.PLAIN),
        ("123456789", "00000000", "123456789", CellKind.PLAIN),
        ("12", '"SN-"0000', "12", CellKind.MASKED),
        ("45351", "yyyy-mm-dd", "2024-02-29", CellKind.DATE),
        ("45351.545138888891", "yyyy-mm-dd hh:mm", "2024-02-29 13:05:00", CellKind.DATE),
        ("0.54513888888888884", "hh:mm", "13:05:00", CellKind.DATE),
        ("1.25", "[h]:mm", "1 day, 6:00:00", CellKind.DURATION),
        ("-3", "yyyy-mm-dd", "-3", CellKind.NEGATIVE),
        ("1E200", "yyyy-mm-dd", "1" + "0" * 200, CellKind.LONG_NUMBER),
        ("abc", "General", "abc", CellKind.NOT_A_NUMBER),
        ("NaN", "General", "NaN", CellKind.NOT_A_NUMBER),
        ("1E999999999", "General", "1E999999999", CellKind.NOT_A_NUMBER),
    ],
)
def test_a_number_is_read_as_shown(stored: str, code: str, shown: str, kind: CellKind) -> None:
    assert format_number(stored, parse_format(code)) == (shown, kind)


def test_a_calendar_may_begin_in_1904() -> None:
    late = calendar_offset(is_1904=True)
    assert format_number("43889", NumberFormat(FormatKind.DATE), late) == ("2024-02-29", CellKind.DATE)
    assert calendar_offset(is_1904=False) == 0


@given(st.text(max_size=40) | st.floats().map(str), st.sampled_from(["General", "0000", "d.m.y", "[h]:mm", '"x"00']))
@example("2958464.9999999", "d.m.y")
@example("٣", "General")
def test_every_stored_number_gives_a_text(stored: str, code: str) -> None:
    for late in (0, calendar_offset(is_1904=True)):
        assert isinstance(format_number(stored, parse_format(code), late)[0], str)


@given(st.integers(0, 10**15 - 1))
def test_a_number_of_15_digits_is_exact_in_every_stored_form(number: int) -> None:
    for stored in (str(number), f"{number}.0", repr(float(number)), f"{number:.15E}"):
        assert format_number(stored, GENERAL) == (str(number), CellKind.PLAIN)
