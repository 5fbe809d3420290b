"""The texts of the pages: every language has all of them, and every text that a page uses exists."""

import re
import string
from pathlib import Path

import pytest
from starlette.requests import Request

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Problem
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.preview import PreviewWord
from telemetron_batch.domain.stops import StopReason
from telemetron_batch.web import render as rendering
from telemetron_batch.web.render import TEXTS_FOLDER, languages, render_text, texts_for

ENGLISH = languages()["en"].by_key
_USED = re.compile(r"""(?<![\w.])(tn?)\(\s*"([a-z_]+\.[\w.]+)"\s*[,)]""")
TEMPLATES = sorted((Path(rendering.__file__).parent / "templates").glob("*.j2"))
WITHOUT_TEXT = {reason for reason in StopReason if "shard" in reason.lower()}
"""Stops of runs in shards, which the page does not make."""


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", languages())
def test_every_language_has_the_same_keys(language: str) -> None:
    assert set(languages()[language].by_key) == set(ENGLISH)


@pytest.mark.parametrize("language", languages())
def test_every_text_fills_in_what_the_english_one_fills_in(language: str) -> None:
    texts = languages()[language].by_key
    different = {
        key: text
        for key, text in texts.items()
        if placeholders(text) != placeholders(ENGLISH[key]) and not key.endswith(".one")
    }
    assert different == {}


@pytest.mark.parametrize("language", languages())
def test_no_text_is_empty(language: str) -> None:
    assert [key for key, text in languages()[language].by_key.items() if not text.strip()] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_text_that_a_page_names_exists(template: Path) -> None:
    named = {key if kind == "t" else f"{key}.other" for kind, key in _USED.findall(template.read_text())}
    assert {key for key in named if key not in ENGLISH} == set()


def test_every_word_of_the_program_that_a_page_shows_has_a_text() -> None:
    keys = [f"{group}.{problem.name}" for problem in Problem for group in ("problem", "help")]
    keys += [f"{group}.{outcome}" for outcome in Outcome for group in ("outcome", "meaning")]
    keys += [f"preview.{word}" for word in PreviewWord]
    keys += [f"action.{action}" for action in Action]
    keys += [f"stop.{reason}" for reason in StopReason if reason not in WITHOUT_TEXT]
    assert [key for key in keys if key not in ENGLISH] == []


def request(language: str = "", cookie: str = "") -> Request:
    headers = [(b"accept-language", language.encode()), (b"cookie", cookie.encode())]
    return Request({"type": "http", "headers": headers, "path": "/", "query_string": b""})


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("fr,en;q=0.4,de;q=0.8", "de"),
        ("en-GB", "en"),
        ("de;q=0,en", "en"),
        ("fr", "en"),
        ("", "en"),
        ("*;q=x,,;;q=", "en"),
    ],
)
def test_the_browser_chooses_the_language(header: str, language: str) -> None:
    assert texts_for(request(header)).language == language


def test_the_choice_of_the_user_comes_before_that_of_the_browser() -> None:
    assert texts_for(request("de", "language=en")).language == "en"
    assert texts_for(request("de", "language=../../etc/passwd")).language == "de"


def test_numbers_and_lengths_of_time_are_written_as_in_the_language() -> None:
    german, english = languages()["de"], languages()["en"]
    assert (german.number(1234567), english.number(1234567)) == ("1.234.567", "1,234,567")
    assert english.duration(1) == "1 second"
    assert english.duration(90) == "90 seconds"
    assert german.duration(7200) == "2 Stunden"
    assert german.plural("run.devices", 1) == "1 Gerät"
    assert german.moment("2026-11-30T22:45:00.000Z") == "30.11.2026, 22:45 UTC"
    assert german.moment("") == ""


def progress_of(language: str = "en", **fields: object) -> str:
    """Return what the page shows of a run in this state."""
    state = {"calls": 9, "done": 3, "outcomes": [], "is_query": False, "seconds_left": None, "messages": []}
    state |= {"down_s": None, "pause_s": 0, "is_stopping": False, "has_begun": True, **fields}
    return render_text(languages()[language], "_progress.html.j2", job=None, jobs=[], progress=state)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Sending."),
        ({"is_query": True}, "Asking Telemetron what the customers have."),
        ({"has_begun": False}, "It is being prepared."),
        ({"pause_s": 42.0}, "Telemetron asks to wait: 42 seconds more. It goes on by itself."),
        ({"down_s": 300.0}, "Telemetron does not answer, for 5 minutes now. It is tried again by itself."),
        ({"down_s": 300.0, "is_stopping": True}, "Stopping: answers under way are awaited."),
    ],
)
def test_pauses_outages_and_the_stop_are_said_in_words(fields: dict[str, object], sentence: str) -> None:
    assert sentence in progress_of(**fields)


def test_what_people_write_into_a_list_is_escaped_and_made_visible() -> None:
    html = progress_of(messages=[{"at": "2026-11-30T22:45:00Z", "text": "<script>alert(1)</script>\u202ereversed"}])
    assert "<script>" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;" in html


def test_a_language_is_a_file_and_nothing_else() -> None:
    assert {path.stem for path in TEXTS_FOLDER.glob("*.toml")} == set(languages())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_page_has_scripts_or_styles_of_its_own(template: Path) -> None:
    text = template.read_text()
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?! src)|javascript:|https?://", text) == []
