"""The log is private and consists of JSON lines without the key."""

import json
import logging
import re
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage.log import LOGGER, Redaction, log_to_file

KEY = Secret("sk/live+1 =")
"""A key whose percent-encoded form differs."""


@pytest.fixture(autouse=True)
def _nothing_logged_yet() -> None:
    LOGGER.setLevel(logging.NOTSET)


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_line_is_an_object_with_time_level_text_and_kind(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "run.log"):
        LOGGER.info("waiting %d s\nfor Zoë", 3, extra={"kind": "hold"})
        LOGGER.warning("careful")
    first, second = logged(tmp_path / "run.log")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("at"))
    assert first == {"level": "info", "text": "waiting 3 s\nfor Zoë", "kind": "hold"}
    assert (second["level"], second["text"], "kind" in second) == ("warning", "careful", False)


@pytest.mark.parametrize("text", ["the key is sk/live+1 =", "?key=sk%2Flive%2B1%20%3D&x", "sk/live+1 =sk/live+1 ="])
def test_the_key_is_removed_in_each_spelling(text: str, tmp_path: Path) -> None:
    with log_to_file(tmp_path / "run.log", KEY):
        LOGGER.info(text)
        LOGGER.info("with arguments: %s", text)
    written = (tmp_path / "run.log").read_text()
    assert "live" not in written
    assert written.count("***") >= 2


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="*"), min_size=8), st.text())
def test_no_message_contains_the_key(key: str, text: str) -> None:
    record = logging.LogRecord("telemetron_batch", logging.INFO, "", 0, "%s", (f"{text}{key}{text}",), None)
    assert Redaction(Secret(key)).filter(record) is True
    assert key not in record.getMessage()


def test_a_short_key_is_removed_only_as_a_separate_word() -> None:
    record = logging.LogRecord("telemetron_batch", logging.INFO, "", 0, "SN-1 of SN, dev_SN: SN.", (), None)
    assert Redaction(Secret("SN")).filter(record) is True
    assert record.getMessage() == "SN-1 of ***, dev_SN: ***."


def test_a_message_is_logged_unchanged_without_a_key() -> None:
    record = logging.LogRecord("telemetron_batch", logging.INFO, "", 0, "50% of %s", ("all",), None)
    record.msg = "half of %s"
    assert Redaction().filter(record) is True
    assert record.getMessage() == "half of all"


def test_the_log_is_private(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "run.log"):
        pass
    assert stat.S_IMODE((tmp_path / "run.log").stat().st_mode) == 0o600


def test_a_second_run_appends(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "run.log"):
        LOGGER.warning("first")
    with log_to_file(tmp_path / "run.log"):
        LOGGER.warning("second")
    assert [line["text"] for line in logged(tmp_path / "run.log")] == ["first", "second"]


def test_after_the_run_nothing_is_logged_and_the_logger_is_as_before(tmp_path: Path) -> None:
    before = (LOGGER.level, list(LOGGER.handlers))
    with log_to_file(tmp_path / "run.log"):
        pass
    LOGGER.info("too late")
    assert (LOGGER.level, LOGGER.handlers) == before
    assert logged(tmp_path / "run.log") == []


def test_a_log_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*run\.log"), log_to_file(tmp_path / "no" / "run.log"):
        pass


def test_earlier_log_calls_do_not_silence_the_log(tmp_path: Path) -> None:
    LOGGER.info("nobody listens yet")
    with log_to_file(tmp_path / "run.log"):
        LOGGER.info("hello")
    assert [line["text"] for line in logged(tmp_path / "run.log")] == ["hello"]


def test_two_runs_of_one_process_write_to_their_own_logs(tmp_path: Path) -> None:
    first_is_open, second_is_closed = threading.Event(), threading.Event()

    def second() -> None:
        first_is_open.wait(30)
        with log_to_file(tmp_path / "second.log"):
            LOGGER.info("second")
        second_is_closed.set()

    thread = threading.Thread(target=second)
    thread.start()
    with log_to_file(tmp_path / "first.log"):
        first_is_open.set()
        assert second_is_closed.wait(30)
        LOGGER.info("first")
    thread.join()
    assert [line["text"] for line in logged(tmp_path / "first.log")] == ["first"]
    assert [line["text"] for line in logged(tmp_path / "second.log")] == ["second"]
    assert LOGGER.level == logging.NOTSET


def test_a_thread_that_belongs_to_no_run_is_heard_in_every_open_log(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "run.log"):
        thread = threading.Thread(target=LOGGER.warning, args=("from a helper thread",))
        thread.start()
        thread.join()
    assert [line["text"] for line in logged(tmp_path / "run.log")] == ["from a helper thread"]
