"""Every example of the page docs/python.md runs, in its order, as one program."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import telemetron_batch as tb
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.docs import DOCS, code_blocks

PAGE = DOCS / "python.md"
ROWS = textwrap.dedent("""\
    Kunde,deviceIdentifier,action
    ann@example.com,SN-1,zugang
    bob@example.com,SN-2,abgang
    cyd@@exmaple.com,SN-3,zugang
    """)


@pytest.fixture
def _api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("assignments.csv").write_text(ROWS)
    with SandboxState() as state, serve_in_thread(state, api_key="key") as url:
        state.seed([("ann@example.com", "SN-1", "assign"), ("bob@example.com", "SN-2", "unassign")])
        monkeypatch.setenv("TELEMETRON_BASE_URL", url)
        monkeypatch.setenv("TELEMETRON_API_KEY", "key")
        yield


@pytest.mark.usefixtures("_api")
def test_the_examples_run_one_after_the_other_and_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = code_blocks(PAGE.read_text(), "python")
    names: dict[str, Any] = {}
    printed = []
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, example {number + 1}", "exec"), names)
        printed.append(capsys.readouterr().out)
    assert len(blocks) == 6
    assert printed[0].startswith("<Plan: 3 rows, 2 calls, 3 devices, 0 invalid>\n<Result frame-")
    assert "3 of 3 rows are where they should be; 0 want attention; exit code 0>" in printed[0]
    assert names["result"].summary.counts["assigned"] == 1
    assert printed[3].startswith("1 3\n<Result corrected: ")
    assert "unknown option 'max_fail'" in printed[4]
    assert "100% 2 of 2 calls" in printed[5]


def test_the_page_lists_every_public_name() -> None:
    text = PAGE.read_text()
    assert [name for name in tb.__all__ if f"tb.{name}" not in text and f"`{name}`" not in text] == []
