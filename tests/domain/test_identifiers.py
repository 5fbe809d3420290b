"""Normalized forms of identifiers: texts equal in one form are equal in each coarser form."""

import sys
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.identifiers import (
    as_column,
    casefolded,
    latin_letters_and_digits,
    letters_and_digits,
    trimmed,
)

ODD = "\u0131\u0130\u017f\u212a\ufb01\u2460\uff11\uff21\u0301"
"""Dotless and dotted i, long s, Kelvin sign, ligature, circled and full-width digits, full-width A, an accent."""
texts = st.text(st.sampled_from(f"aAbB1 -:_\t\u00a0\u00e9\u00c9\u00df\x00\U0001f600{ODD}")) | st.text()


def one(form: object, text: str) -> str:
    return str(form(as_column([text]))[0])  # type: ignore[operator]


@pytest.mark.parametrize(
    "spelling", ["AABBCC", "aa:bb:cc", " Aa-Bb-Cc ", "aa.bb_cc", "\uff41abbcc", "aa\u200bbbcc", "a\u0301abbcc"]
)
def test_letters_and_digits_are_the_same_in_every_spelling(spelling: str) -> None:
    assert one(letters_and_digits, spelling) == "aabbcc"


def test_changing_case_or_unicode_form_does_not_change_letters_and_digits() -> None:
    characters = [*filter(str.isprintable, map(chr, range(sys.maxunicode + 1)))]
    expected = letters_and_digits(pa.array(characters))
    for change in (str.lower, str.upper, str.casefold, str.title, lambda c: unicodedata.normalize("NFKC", c)):
        assert letters_and_digits(pa.array([change(one) for one in characters])).equals(expected)


@given(st.lists(texts, max_size=6))
def test_a_column_is_converted_like_each_text_alone(some: list[str]) -> None:
    column = pa.array(["x", *some])[1:]  # a slice, as a part of a larger column is
    for form in (trimmed, casefolded, letters_and_digits):
        assert form(column).to_pylist() == [one(form, text) for text in some]


@given(texts, st.sampled_from([str.upper, str.lower, str.casefold, str.swapcase, str.strip]))
def test_texts_equal_in_one_form_are_equal_in_the_next(text: str, change: object) -> None:
    other = str(change(text))  # type: ignore[operator]
    forms = [trimmed, casefolded, letters_and_digits, latin_letters_and_digits]
    equal = [text == other, *(one(form, text) == one(form, other) for form in forms)]
    assert equal == sorted(equal)


@pytest.mark.parametrize(
    ("look_alike", "latin"),
    [
        ("\u0410\u0412\u0421-\u0445", "abcx"),
        ("\u0391\u0392\u03a7\u03bf", "abxo"),
        ("\u0555\u0585", "oo"),
        ("\u13aa\uab7a", "aa"),
        ("\u0661\u06f2\u0969\uff14", "1234"),
        ("S\u0418-1", "s\u04381"),
    ],
)
def test_look_alikes_become_latin_only_in_the_form_that_is_for_them(look_alike: str, latin: str) -> None:
    assert one(latin_letters_and_digits, look_alike) == latin
    assert one(letters_and_digits, look_alike) != "".join(filter(str.isascii, latin))


@given(texts)
def test_forms_are_those_of_the_standard_library(text: str) -> None:
    assert (one(trimmed, text), one(casefolded, text)) == (text.strip(), text.strip().casefold())


def test_a_lone_surrogate_is_replaced() -> None:
    assert as_column(["SN-1", "\ud83d"]).to_pylist()[0] == "SN-1"
