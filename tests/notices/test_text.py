"""The words of messages: one sentence, counts, causes, where the report is, and nobody's address."""

import re
from pathlib import Path

import pytest

from telemetron_batch.config.notices import EndKind
from telemetron_batch.domain.errors import BrakeError, ConfigError, InputError
from telemetron_batch.notices.ending import Ending, ending_of_error, ending_of_killed_run
from telemetron_batch.notices.text import LINES, SENTENCES, compose, trial_message
from telemetron_batch.reports.summary import CauseSummary
from tests.support.docs import DOCS

FIELDS = {
    "runId": "night-2026-11-22",
    "rows": 2073,
    "attention": 29,
    "counts": {"assigned": 1855, "unassigned": 189, "invalid": 27, "failed": 2, "held": 0},
    "stop": None,
    "startedAt": "2026-11-22T02:00:04.120Z",
    "seconds": 100.2,
}
CAUSES = (
    CauseSummary(
        "invalid", 27, 'customerEmail "…" is not valid', 'customerEmail "ann@" is not valid', "line 4, ann@, SN-1"
    ),
    CauseSummary("failed", 2, "HTTP 404: no customer …", "HTTP 404: no customer bob@x.com", "line 9, bob@x.com, SN-2"),
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    (tmp_path / "report.html").touch()
    return tmp_path / "report.html"


def attention(report: Path) -> Ending:
    return Ending(exit_code=1, run="night-2026-11-22", folder=report.parent, fields=FIELDS, causes=CAUSES)


def test_a_message_says_how_it_ended_why_and_where_the_report_is(report: Path) -> None:
    message = compose(attention(report), "erp1", with_details=False)
    assert message.title == (
        "telemetron-batch: night-2026-11-22: 2,044 of 2,073 rows are where they should be; 29 want attention"
    )
    assert message.body.splitlines() == [
        "night-2026-11-22: 2,044 of 2,073 rows are where they should be; 29 want attention.",
        "",
        "Rows: 2,073; 1,855 assigned, 189 unassigned, 27 invalid, 2 failed",
        "Why rows want attention:",
        '- 27 invalid: customerEmail "…" is not valid',
        "- 2 failed: HTTP 404: no customer …",
        f"Report: {report}",
        "Exit code 1 on erp1, started 2026-11-22T02:00:04.120Z, took 1 min 40 s",
    ]


def test_the_documentation_shows_this_very_message(report: Path) -> None:
    message = compose(attention(report), "erp1", with_details=False)
    body = message.body.replace(str(report), "/var/lib/telemetron/night-2026-11-22/report.html")
    assert f"{message.title}\n\n{body}\n" in (DOCS / "alerts.md").read_text()


def test_a_run_that_is_named_after_a_person_is_told_without_the_address(tmp_path: Path) -> None:
    folder = tmp_path / "closing-neil@example.com"
    folder.mkdir()
    (folder / "report.html").touch()
    ending = Ending(exit_code=1, run=folder.name, folder=folder, fields=FIELDS, causes=CAUSES)
    message = compose(ending, "erp1", with_details=False)
    assert "neil" not in message.title + message.body
    assert "closing-neil@example.com" in compose(ending, "erp1", with_details=True).title


def test_details_name_the_first_row_of_each_cause(report: Path) -> None:
    body = compose(attention(report), "erp1", with_details=True).body
    assert "- 2 failed: HTTP 404: no customer bob@x.com\n  first: line 9, bob@x.com, SN-2\n" in body


def test_a_stop_gives_its_reason_and_what_to_do() -> None:
    stopped = Ending(exit_code=3, run="r", reason="the API has been down for 900 s", advice="run it again later")
    message = compose(stopped, "erp1", with_details=False)
    assert message.title == "telemetron-batch: r stopped: the API has been down for 900 s"
    assert message.body == (
        "r stopped: the API has been down for 900 s.\n\nWhat to do: run it again later\nExit code 3 on erp1"
    )


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (InputError('a.csv: line 3: "SN-77" follows ann@x.com', "look"), 'a.csv: line 3: "…" follows …@…'),
        (BrakeError("the input has 2 rows, fewer than --min-rows 5"), "the input has 2 rows, fewer than --min-rows 5"),
        (ConfigError("--rate: 'fast' is not a rate"), "--rate: 'fast' is not a rate"),
        (ConfigError("--job ann@x.com is no job"), "--job …@… is no job"),
    ],
)
def test_a_refusal_quotes_options_but_no_cell_and_no_address(error: Exception, shown: str) -> None:
    ending = ending_of_error(error, "r", None)
    assert compose(ending, "erp1", with_details=False).title == f"telemetron-batch: r was refused: {shown}"
    assert str(error.args[0]) in compose(ending, "erp1", with_details=True).title


def test_a_bug_is_told_without_its_text_which_may_hold_anything() -> None:
    message = compose(ending_of_error(KeyError("ann@x.com"), "r", None), "erp1", with_details=True)
    assert message.title == "telemetron-batch: r was refused: an error of the program ended it (KeyError)"
    assert "Exit code 7" in message.body


def test_an_interrupted_command_is_a_stop() -> None:
    message = compose(ending_of_error(KeyboardInterrupt("run X"), "r", None), "erp1", with_details=False)
    assert message.body == "r stopped: it was interrupted.\n\nWhat to do: run X\nExit code 3 on erp1"


def test_a_killed_run_is_told_as_found_later(tmp_path: Path) -> None:
    message = compose(ending_of_killed_run(tmp_path / "r", "run X"), "erp1", with_details=False)
    assert message.body == (
        "r stopped: its process was killed, or the machine went down.\n\n"
        "What to do: run X\nFound by the next command of its job, on erp1"
    )


def test_control_characters_do_not_reach_a_message() -> None:
    body = compose(Ending(exit_code=3, run="r", reason="a\x1b[31mb\nc"), "erp1", with_details=True).body
    assert "\x1b" not in body
    assert "b\nc" not in body


def test_every_template_is_documented() -> None:
    page = (DOCS / "alerts.md").read_text()
    assert set(SENTENCES) == set(EndKind)
    for template in SENTENCES.values():
        assert f"`{re.sub(r'{(.*?)}', lambda name: name[1].upper(), template)}`" in page
    assert trial_message("HOST").body in page
    assert list(LINES)[-2:] == ["end", "times"]
