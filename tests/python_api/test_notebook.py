"""What a notebook shows is small, whole, and free of anything that runs."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.python_api.fields import PlanFields, RunFields
from telemetron_batch.python_api.notebook import plan_html, run_html

EVIL = "<script>alert('x')</script>\x1b[31m\u202e&"
COUNTS = dict.fromkeys(map(str, Outcome), 0)


def run_fields(**more: Any) -> RunFields:
    counts = COUNTS | {"assigned": 1200, "invalid": 3}
    return RunFields(
        {"runId": "r", "exitCode": 1, "rows": 1203, "attention": 3, "counts": counts, "stop": None, **more}
    )


def plan_fields(**more: Any) -> PlanFields:
    stage = {"stage": 1, "action": "assign", "calls": 1, "devices": 2}
    numbers = {"rows": 3, "devices": 2, "customers": 1, "calls": 1, "duplicates": 0, "invalid": 1}
    return PlanFields({**numbers, "stages": [stage], "problems": [], **more})


class _Checker(HTMLParser):
    """Finds tags that are not closed, and collects the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("href", "src")]
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def checked(html: str) -> tuple[set[str], str]:
    checker = _Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker.tags, " ".join(checker.texts)


def test_a_result_shows_verdict_outcomes_and_folder() -> None:
    html = run_html(Path("reports/r"), run_fields())
    tags, text = checked(html)
    assert "1,200 of 1,203 rows are where they should be; 3 want attention" in text
    assert "assigned 1,200" in text
    assert "failed" not in text
    assert "reports/r" in text
    assert tags <= {"div", "b", "table", "tr", "th", "td", "span", "code"}


def test_a_stopped_run_shows_why_and_what_to_do() -> None:
    stop = {"reason": "the API is down", "advice": "run it again later", "code": 1}
    _, text = checked(run_html(Path("r"), run_fields(stop=stop)))
    assert "Stopped: the API is down; run it again later" in text


def test_a_plan_shows_numbers_stages_problems_and_its_fingerprint() -> None:
    problems = [{"problem": "empty key cell", "rows": 1, "firstLines": [7]}]
    saved = {"folder": "reports/r", "runId": "r", "fingerprint": "7f3a-92c1", "state": "planned"}
    _, text = checked(plan_html(plan_fields(problems=problems, **saved)))
    assert "3 rows: 2 devices of 1 customers, 1 calls" in text
    assert "empty key cell 1 7" in text
    assert "7f3a-92c1" in text


@pytest.mark.parametrize(
    "html",
    [
        run_html(Path(EVIL), run_fields(runId=EVIL, stop={"reason": EVIL, "advice": EVIL})),
        plan_html(
            plan_fields(
                folder=EVIL,
                runId=EVIL,
                fingerprint=EVIL,
                state=EVIL,
                problems=[{"problem": EVIL, "rows": 1, "firstLines": [1]}],
                stages=[{"stage": 1, "action": EVIL, "calls": 1, "devices": 1}],
            )
        ),
    ],
    ids=["result", "plan"],
)
def test_foreign_texts_are_escaped(html: str) -> None:
    tags, text = checked(html)
    assert "script" not in tags
    assert "<script>alert('x')</script>" in text
    assert html.isprintable()


def test_a_notebook_page_stays_small_however_long_the_plan_is() -> None:
    stages = [{"stage": at, "action": "assign", "calls": 1, "devices": 1} for at in range(5000)]
    assert len(plan_html(plan_fields(stages=stages))) < 8_000
    assert len(run_html(Path("r"), run_fields(counts=dict.fromkeys(COUNTS, 1)))) < 8_000


def test_colours_of_texts_and_backgrounds_are_those_of_the_page() -> None:
    for html in (run_html(Path("r"), run_fields()), plan_html(plan_fields())):
        assert "color:inherit" in html
        assert "background:#" not in html
        assert html.count("color:#") == html.count("<span")
