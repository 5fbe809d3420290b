"""An address is told from others that contain it, in every writing."""

import unicodedata

import pytest

from telemetron_batch.retention.addresses import AddressRewriter

NEIL = "neil@example.com"
VALUE = "forgotten-0"


def rewritten(text: str, address: str = NEIL, encoding: str = "utf-8") -> tuple[str, int]:
    """Return the text after its address was forgotten, and how many occurrences are doubtful."""
    rewriter = AddressRewriter({address: VALUE})
    return rewriter.content(text.encode(encoding)).decode(encoding), rewriter.doubts


@pytest.mark.parametrize("sign", "'/=&|{!*#%~?^`$+-_.}")
def test_the_address_of_another_person_is_left_after_every_sign(sign: str) -> None:
    other = f"o{sign}{NEIL}"
    for cell in (other, f"a,{other},b", f'"{other}"\n', f"<td>{other}</td>"):
        assert rewritten(cell) == (cell, 0)
    assert rewritten(f"write to {other}.")[0] == f"write to {other}."


@pytest.mark.parametrize(
    "other",
    [
        "o%27neil%40example.com",
        "o%27neil@example.com",
        "o&#39;neil@example.com",
        "o&amp;neil@example.com",
        "o\\u0027neil@example.com",
        "ö%C3%B6neil%40example.com",
        "éneil@example.com",
        "e\u0301neil@example.com",
        "'o'neil@example.com'",
        "neil@example.com.au",
        "neil@example.community",
    ],
)
def test_the_address_of_another_person_is_left_in_every_writing(other: str) -> None:
    assert rewritten(other)[0] == other
    assert rewritten(f"to {other} now", encoding="utf-8")[0] == f"to {other} now"
    for encoding in ("utf-16-le", "utf-16-be") if "\u0301" not in other else ("utf-16-le",):
        assert rewritten(other, encoding=encoding)[0] == other
        assert rewritten(f"{other}\n", encoding=encoding)[0] == f"{other}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'", "'"),
        ("<", ">"),
        ("mailto:", ""),
        ("see =", " now"),
        ("x ", "."),
        ("_", "_"),
        ("*", "*"),
        ("**", "**"),
        ("`", "`"),
        ("{", "}"),
        ("...", ""),
        ("joe: ...", "..."),
        ("to='", "'"),
        ("email=", " x"),
        ("/p?customerEmail=", "&x=1"),
        ("a%20", "%0A"),
        ("&lt;", "&gt;"),
        ("\\n", "\\n"),
        ("", "-1.csv"),
        ("/var/lists/", "-1.csv"),
        ("runs/", "/list.csv"),
        ("", ".csv.gz"),
    ],
)
def test_the_address_is_replaced_within_what_wraps_it(before: str, after: str) -> None:
    at = "%40" if "%" in before else "@"
    assert rewritten(f"{before}{NEIL.replace('@', at)}{after}") == (f"{before}{VALUE}{after}", 0)


@pytest.mark.parametrize("text", [f"-{NEIL}", f"note: -{NEIL}", f"write {NEIL}.Thanks", f"Neil/{NEIL} called"])
def test_what_may_be_another_address_is_left_and_counted(text: str) -> None:
    assert rewritten(text) == (text, 1)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("given", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_an_address_is_found_in_both_forms_of_unicode(form: str, given: str, encoding: str) -> None:
    address = "jörg.ñandú@müller.example"
    for cased in (address, address.upper()):
        for end in ("", ";", "\n"):
            text = f"to {unicodedata.normalize(form, cased)}{end}"
            assert rewritten(text, unicodedata.normalize(given, address), encoding) == (f"to {VALUE}{end}", 0)
