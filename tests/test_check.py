"""Is the API there, and does it take our key?"""

from typing import Any

import pytest

from batch import app
from batch.config import resolve
from batch.model import Stop
from tests.conftest import KEY, Desk
from tests.scripted import BASE_URL, Event, Hangs, Loses, Refuses, Says


def checked(desk: Desk, event: Event = None) -> Stop | None:
    desk.server.script = lambda _: event
    flags: dict[str, Any] = {"base_url": BASE_URL, "timeout": "3"}
    return app.check(resolve((), flags, {"TELEMETRON_API_KEY": KEY}), transport=desk.server, clock=desk.clock)


def test_an_api_that_knows_no_such_customer_is_all_right(desk: Desk) -> None:
    assert checked(desk) is None
    assert [seen.action for seen in desk.server.seen] == ["query"]


@pytest.mark.parametrize(
    ("event", "exit_code", "words"),
    [
        (Says(401, {"error": "Invalid or missing API key"}), 4, "refuses this key"),
        (Says(403, {"error": "no"}), 4, "refuses this key"),
        (Says(302, b""), 4, "redirects elsewhere"),
        (Says(404, b"<h1>Not Found</h1>"), 4, "no Telemetron API"),
        (Says(200, b"<h1>Welcome</h1>"), 4, "no Telemetron API"),
        (Says(429, {}), 3, "429"),
        (Says(502, b"<html>"), 3, "502"),
        (Refuses(), 3, "cannot be reached"),
        (Loses(), 3, "cannot be reached"),
        (Hangs(), 3, "cannot be reached"),
    ],
)
def test_each_failure_has_its_words_and_its_exit_code(desk: Desk, event: Event, exit_code: int, words: str) -> None:
    stop = checked(desk, event)
    assert stop is not None
    assert (stop.exit_code, words in stop.sentence) == (exit_code, True)
    assert KEY not in stop.sentence + stop.advice.words()
