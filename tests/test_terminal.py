"""What a person sees on a terminal."""

import io

import pytest
from rich.console import Console

from batch import terminal
from batch.config import Talk
from batch.terminal import TerminalFace
from tests.conftest import Desk
from tests.scripted import Says

A = "a@x.com"


class Screen(TerminalFace):
    """A face whose terminal is a text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answer: bool, **talk: bool) -> None:
        super().__init__(Talk(**talk))
        self.text = io.StringIO()
        self._console = Console(file=self.text, force_terminal=True, width=100, stderr=False)
        self.asked: list[str] = []
        monkeypatch.setattr(terminal.sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True)

        def confirm(question: str, **_: object) -> bool:
            self.asked.append(question)
            return answer

        monkeypatch.setattr(terminal.click, "confirm", confirm)


def test_on_a_terminal_the_plan_is_shown_and_confirmed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True)
    assert desk.run([(A, "SN-1", "assign")]).outcomes == ["assigned"]
    assert screen.asked == ["Send 1 call?"]
    assert "assign" in screen.text.getvalue()


def test_without_a_yes_nothing_is_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from batch.errors import BrakeError

    desk.face = Screen(monkeypatch, answer=False)
    with pytest.raises(BrakeError, match="nothing was sent"):
        desk.run([(A, "SN-1", "assign")])
    assert desk.server.seen == []


def test_yes_skips_the_question(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=False, yes=True)
    assert desk.run([(A, "SN-1", "assign")]).outcomes == ["assigned"]
    assert screen.asked == []


def test_the_progress_tells_calls_pace_and_outcomes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True)
    desk.run([(f"u{n}@x.com", f"SN-{n}", "assign") for n in range(5)])
    shown = screen.text.getvalue()
    assert "5/5" in shown
    assert "10.0/s" in shown
    assert "5 assigned" in shown


def test_a_hold_is_told_with_its_reason(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True)
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "12"}) if seen.number == 1 else None
    desk.run([(A, "SN-1", "assign")])
    assert "waiting 12" in screen.text.getvalue()


def test_content_that_was_processed_before_is_asked_about(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.run([(A, "SN-1", "assign")])
    desk.face = screen = Screen(monkeypatch, answer=True)
    assert desk.run([(A, "SN-1", "assign")], run_id="r2").outcomes == ["alreadyAssigned"]
    assert screen.asked[0].startswith("Run r1 has already processed exactly this content.")
