"""Commands in messages can be pasted into the shell of the system."""

import shlex
import sys

import pytest

from telemetron_batch.domain.shell import join, quote

WORDS = ["run", "/erp/my list.csv", "--column", "customerEmail=Kunde Nr"]


def test_a_posix_shell_reads_the_words_back() -> None:
    assert shlex.split(join(WORDS)) == WORDS
    assert quote("plain") == "plain"
    assert quote("it's") == "'it'\"'\"'s'"


def test_windows_has_double_quotes_and_leaves_backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert join(["resume", r"C:\reports\my run", r"C:\x"]) == r'resume "C:\reports\my run" C:\x'
