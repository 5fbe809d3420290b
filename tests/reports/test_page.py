"""report.html: its texts, hostile cells, and many rows."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pytest

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.model import InputFile
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.schema import AttemptEnd
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import summarize
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reconciliation.remaining_devices import find_remaining_devices
from telemetron_batch.reports import compiled_page, page
from telemetron_batch.reports.findings import created_customers, find_causes, find_transfers
from telemetron_batch.reports.page import Page, Timeline, slice_seconds, slices, write_html
from telemetron_batch.rows.rows import RowBlock
from tests.conftest import Desk, FakeClock
from tests.support.builders import A, B, C, Row, block_of, file_of, keys_of, planned, settle
from tests.support.compiled_page import compiled_page as make_compiled_page
from tests.support.scripted import Refuses, Says, Seen, Window

Ends = Mapping[tuple[str, str, str], DeviceResult]
RLO = "\u202e"


def reconcile(plan: Plan, ends: Ends, *, created: Sequence[str] = (), names: Sequence[str] = ()) -> Reconciliation:
    """Return a result with these results by customer, device and action; all other valid rows succeeded."""
    ledger = Ledger(plan, names)
    for number in range(1, plan.calls + 1):
        call = plan.call(number)
        done = DeviceResult(Outcome.ASSIGNED if call.action == "assign" else Outcome.UNASSIGNED)
        results = [ends.get((call.customer, device, str(call.action)), done) for device in call.devices]
        settled = {at: result for at, result in enumerate(results) if result.outcome is not Outcome.NOT_SENT}
        settle(ledger, (number, Answer(settled, customer_was_created=call.customer in created)))
    return ledger.close("a signal came")


def blocks_of(*files: Sequence[Row]) -> list[RowBlock]:
    return [block_of(keys_of(rows), [row[:3] for row in rows], at) for at, rows in enumerate(files)]


def page_of(result: Reconciliation, *files: InputFile, timeline: Timeline | None = None, **changes: Any) -> Page:
    """Return the page of a run with this result; `changes` replace fields of its summary."""
    attention = int(result.attention().sum())
    fields: dict[str, Any] = {
        "runId": "night-1",
        "fingerprint": None,
        "approval": None,
        "version": "0",
        "state": "finished",
        "exitCode": 1 if attention else 0,
        "balanced": True,
        "stop": None,
        "baseUrl": "https://api.example.com/v1",
        "sandbox": False,
        "options": {"rate": "10/s", "column": ["action=Move"], "yes": True},
        "rows": len(result.outcome),
        "counts": {str(outcome): count for outcome, count in result.counts().items()},
        "attention": attention,
        "attentionByOutcome": {str(outcome): count for outcome, count in result.attention_counts().items() if count},
        "customersCreated": result.customers_created,
        "unassignsWithoutEffect": int(result.without_effect().sum()),
        "customersWithoutDevices": find_remaining_devices(result, ()).without_devices,
        "customersStillHolding": find_remaining_devices(result, ()).still_holding,
        "calls": result.plan.calls,
        "attempts": 2,
        "refusals": 0,
        "unclearAttempts": 0,
        "events": [],
        "files": ["reconciliation.csv", "attention.csv", "undo.csv"],
        "startedAt": "2026-01-01T00:00:00.000Z",
        "endedAt": "2026-01-01T00:00:02.000Z",
        "seconds": 2.0,
        "rateReached": 1.0,
    }
    plan = summarize(result.plan, files or (file_of(rows=len(result.outcome)),), Rate.parse("10/s"))
    return Page(fields=fields | changes, reconciliation=result, plan=plan, timeline=timeline)


def written(folder: Path, rows: Sequence[Row], ends: Ends | None = None, **changes: Any) -> str:
    """Return the HTML of a run over one file with these rows."""
    result = reconcile(planned(rows), ends or {})
    write_html(folder / "report.html", page_of(result, **changes), blocks_of(rows))
    return (folder / "report.html").read_text(encoding="utf-8")


def shown(html: str) -> str:
    """Return the visible text of a page without script."""
    body = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.DOTALL)
    body = re.sub(r"</(p|li|h\d|dt|dd|td|th|div)>", " ", body)
    return " ".join(re.sub(r"<[^>]+>", "", body).replace("&#34;", '"').replace("&nbsp;", " ").split())


def failed(text: str) -> DeviceResult:
    return DeviceResult(Outcome.FAILED, reason=Reason.DEVICE_REFUSED, text=text)


# The compiled template


def test_the_compiled_template_is_that_of_the_source_as_make_page_writes_it() -> None:
    if jinja2.__version__ != compiled_page.JINJA_VERSION:
        pytest.skip(f"compiled with Jinja {compiled_page.JINJA_VERSION}")
    assert Path(compiled_page.__file__).read_text("utf-8") == make_compiled_page()


def test_another_version_of_jinja_compiles_the_source_and_writes_the_same_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "unassign")]
    monkeypatch.setattr(page, "_template", page._template.__wrapped__)
    compiled = written(tmp_path, rows, {rows[0]: failed("no")})
    monkeypatch.setattr(compiled_page, "JINJA_VERSION", "0")
    monkeypatch.delattr(compiled_page, "root")
    assert written(tmp_path, rows, {rows[0]: failed("no")}) == compiled


# Verdict and advice


@pytest.mark.parametrize(
    ("rows", "bad", "words"),
    [
        (0, 0, "The input has no rows; nothing was sent."),
        (1, 0, "The one row is where it should be."),
        (2, 0, "All 2 rows are where they should be."),
        (1, 1, "The one row wants attention."),
        (2, 2, "None of 2 rows is where it should be; 2 want attention."),
        (2, 1, "1 of 2 rows is where it should be; 1 wants attention."),
        (1234, 2, "1,232 of 1,234 rows are where they should be; 2 want attention."),
    ],
)
def test_the_verdict_comes_first(tmp_path: Path, rows: int, bad: int, words: str) -> None:
    some = [(A, f"SN-{at}", "assign") for at in range(rows)]
    html = written(tmp_path, some, {row: failed("no") for row in some[:bad]})
    assert shown(html[html.index("<h1>") : html.index("</h1>")]) == words
    assert f"<title>{words.rstrip('.')} (night-1)</title>" in html


def test_a_stopped_run_gives_the_reason_and_the_next_step(tmp_path: Path) -> None:
    stop = {"reason": "the API has been down for 900 s", "advice": "run the same command again later"}
    text = shown(written(tmp_path, [(A, "SN-1", "assign")], state="stopped", exitCode=3, stop=stop))
    assert "Stopped: the API has been down for 900 s. What to do next: run the same command again later." in text
    assert (
        "Stopped before the end. To continue where this run stopped, run the same command again. (exit code 3)" in text
    )


@pytest.mark.parametrize("code", range(8))
def test_every_exit_code_has_a_sentence(tmp_path: Path, code: int) -> None:
    page = shown(written(tmp_path, [(A, "1", "assign")], exitCode=code))
    assert re.search(rf"be\. [A-Z][^(]*\. \(exit code {code}\)", page)


@pytest.mark.parametrize("outcome", [*Outcome])
def test_every_outcome_has_a_sentence_and_advice(tmp_path: Path, outcome: Outcome) -> None:
    row = (A, "SN-1", "assign")
    text = shown(written(tmp_path, [row], {row: DeviceResult(outcome)}))
    assert f" {outcome} " in text
    assert ("What to do:" in text) == outcome.wants_attention(Action.ASSIGN)


def test_the_page_names_options_mapping_links_and_hash(tmp_path: Path) -> None:
    files = ["reconciliation.csv", "attention.csv", "undo.csv", "report.html"]
    html = written(tmp_path, [(A, "SN-1", "assign")], files=files)
    text = shown(html)
    assert "--column action=Move" in text
    assert "--yes on" in text
    assert "customerEmail from column “customerEmail”" in text
    assert text.count("hash of rows.csv") == 1
    assert 'title="hash of rows.csv"' in html
    assert re.findall(r'<dt><a href="([^"]+)"', html) == [
        "reconciliation.csv",
        "attention.csv",
        "undo.csv",
        "summary.json",
        "run.log",
        "journal.sqlite3",
    ]


def test_a_warning_about_the_input_is_shown(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    page = page_of(reconcile(planned(rows), {}), replace(file_of(), warnings=("read as Windows-1252 on a guess",)))
    write_html(tmp_path / "report.html", page, blocks_of(rows))
    assert "Warning: read as Windows-1252 on a guess" in shown((tmp_path / "report.html").read_text())


# Causes


def test_details_that_differ_only_in_identifiers_and_numbers_are_one_cause() -> None:
    texts = ["400: Device SN-1 is locked by contract 4711", "400: Device SN-22 is locked by contract 9", "409: busy"]
    rows = [(A, f"SN-{at}", "assign") for at in range(3)]
    result = reconcile(planned(rows), {row: failed(text) for row, text in zip(rows, texts, strict=True)})
    causes, in_all = find_causes(result, blocks_of(rows))
    assert [(cause.text, cause.rows) for cause in causes] == [
        ("400: Device … is locked by contract …", 2),
        ("409: busy", 1),
    ]
    assert in_all == 2
    assert (causes[0].lines, causes[0].customer, causes[0].device) == (["2", "3"], A, "SN-0")
    assert causes[0].detail == texts[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "may still be with a.b@x.com: its unassign did not succeed",
            "may still be with c@y.org: its unassign did not succeed",
        ),
        ('400: Device "SN 1" is "locked"', '400: Device "x" is "locked"'),
        ("no answer in 31 s", "no answer in 30.5 s"),
        ("HTTP 400", "HTTP 400"),
    ],
)
def test_details_of_one_cause_are_masked_to_the_same_text(one: str, other: str) -> None:
    rows = [(A, "1", "assign"), (A, "2", "assign")]
    result = reconcile(planned(rows), {rows[0]: failed(one), rows[1]: failed(other)})
    assert find_causes(result, blocks_of(rows))[1] == 1


def test_different_http_statuses_are_different_causes() -> None:
    rows = [(A, "1", "assign"), (A, "2", "assign")]
    result = reconcile(planned(rows), {rows[0]: failed("HTTP 400"), rows[1]: failed("HTTP 422")})
    assert find_causes(result, blocks_of(rows))[1] == 2


def test_invalid_rows_are_grouped_by_the_loaders_text_without_its_quotes() -> None:
    rows = [(A, "1", "assign", "EMAIL"), (A, "2", "assign"), (A, "3", "assign", "EMAIL")]
    keys = keys_of(rows)
    details = ['"a "quoted" one" is no email', "", '"b" is no email']
    keys = keys.set_column(7, keys.schema.field(7), pa.array(details))
    causes, _ = find_causes(reconcile(planned(rows), {}), [block_of(keys, [row[:3] for row in rows])])
    assert [(cause.text, cause.rows, cause.lines, cause.detail) for cause in causes] == [
        ('"…" is no email', 2, ["2", "4"], details[0])
    ]


def test_with_several_files_a_line_includes_its_file() -> None:
    first, second = [(A, "1", "assign", "EMAIL")], [(A, "2", "assign", "EMAIL")]
    result = reconcile(planned(first, second), {}, names=["a.csv", "b.csv"])
    assert find_causes(result, blocks_of(first, second))[0][0].lines == ["a.csv:2", "b.csv:2"]


def test_only_the_causes_with_most_rows_are_shown(tmp_path: Path) -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(100)]
    ends = {row: failed("x" * (1 + at % 40)) for at, row in enumerate(rows)}
    html = written(tmp_path, rows, ends)
    assert html.count('<li class="cause">') == 30
    assert "100 rows for 40 causes; these are the 30 with most rows" in shown(html)


# Customers and transfers


def test_created_customers_are_listed_in_input_order() -> None:
    rows = [(C, "1", "assign"), (A, "2", "assign"), (B, "3", "assign")]
    result = reconcile(planned(rows), {}, created=[A, C])
    assert created_customers(result, blocks_of(rows)) == [C, A]


TAKE, GIVE = (A, "1", "unassign"), (B, "1", "assign")


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ({}, "moved"),
        ({TAKE: DeviceResult(Outcome.SKIPPED)}, "moved"),
        ({TAKE: DeviceResult(Outcome.FAILED, reason=Reason.CUSTOMER_NOT_FOUND)}, "moved"),
        ({TAKE: failed("customer not found")}, "given, not taken back"),
        ({GIVE: failed("locked")}, "taken back, not given"),
        ({TAKE: failed("locked"), GIVE: DeviceResult(Outcome.HELD)}, "not moved"),
        ({TAKE: failed("locked")}, "given, not taken back"),
    ],
)
@pytest.mark.parametrize("rows", [[TAKE, GIVE], [GIVE, TAKE]])
def test_a_transfer_has_a_state(rows: Sequence[Row], ends: Ends, state: str) -> None:
    (transfer,), by_state = find_transfers(reconcile(planned(rows), ends), blocks_of(rows))
    assert (transfer.device, transfer.taken_from, transfer.given_to, transfer.state) == ("1", A, B, state)
    assert by_state[state] == sum(by_state.values()) == 1


def test_a_device_that_moves_twice_is_two_transfers() -> None:
    rows = [(A, "1", "unassign"), (B, "1", "assign"), (B, "1", "unassign"), (C, "1", "assign")]
    found, _ = find_transfers(reconcile(planned(rows), {}), blocks_of(rows))
    assert [(one.taken_from, one.given_to) for one in found] == [(A, B), (B, C)]


def test_an_unassign_and_assign_of_the_same_customer_is_no_transfer() -> None:
    rows = [(A, "1", "unassign"), (A, "1", "assign"), (B, "2", "unassign"), (C, "3", "assign")]
    assert find_transfers(reconcile(planned(rows), {}), blocks_of(rows))[0] == []


def test_incomplete_transfers_are_shown_first() -> None:
    rows = [
        (customer, f"SN-{at}", action) for at in range(150) for customer, action in ((A, "unassign"), (B, "assign"))
    ]
    found, by_state = find_transfers(
        reconcile(planned(rows), {(B, "SN-149", "assign"): failed("locked")}), blocks_of(rows)
    )
    assert (len(found), found[0].device, by_state["moved"]) == (100, "SN-149", 149)


# The timeline


@pytest.mark.parametrize("duration", [0.0, 0.3, 1.0, 20.0, 3600.0, 36_000.0, 9e6])
@pytest.mark.parametrize("attempts", [1, 10, 1_000_000])
def test_a_timeline_has_few_slices_for_any_duration(duration: float, attempts: int) -> None:
    assert 1 <= duration // slice_seconds(duration, attempts) + 1 <= 73


def test_a_pause_lasts_until_the_next_attempt_and_an_outage_until_an_answer() -> None:
    counts = [(0, "hold", 1), (0, "throttled", 2), (2, "answered", 1), (3, "down", 1), (4, "unclear", 1), (5, "up", 1)]
    found = slices(Timeline(0.0, 6.5, 1.0, counts))
    assert "".join("w" if one.waiting else "." for one in found) == "ww....."
    assert "".join("d" if one.down else "." for one in found) == "...ddd."


def test_an_outage_without_an_end_event_ends_at_the_first_answer() -> None:
    found = slices(Timeline(0.0, 3.5, 1.0, [(0, "down", 1), (2, "answered", 3)]))
    assert [one.down for one in found] == [True, True, False, False]


async def _attempts(journal: Journal) -> None:
    for at, ending in ((100.0, "answered"), (100.9, "refused"), (101.0, "unclear"), (109.0, "unsent")):
        attempt = await journal.record_start(1, None, at)
        await journal.record_end(attempt, AttemptEnd(ending, "throttled" if ending == "refused" else "x"), at)
    await journal.record_start(1, None, 109.5)


def test_the_journal_counts_attempts_and_events_by_slice(tmp_path: Path) -> None:
    draft = JournalDraft(tmp_path / "journal.sqlite3")
    draft.publish({})
    journal = Journal(tmp_path / "journal.sqlite3")
    FakeClock().run(_attempts(journal))
    journal.record_event(103.0, "hold", "waiting")
    journal.record_event(103.0, "warning", "not told")
    journal.close()
    journal = Journal(tmp_path / "journal.sqlite3")
    counts = journal.timeline(100.0, 1.0)
    journal.close()
    assert counts == [
        (0, "answered", 1),
        (0, "throttled", 1),
        (1, "unclear", 1),
        (3, "hold", 1),
        (9, "unclear", 1),
        (9, "unsent", 1),
    ]


def test_a_run_with_refusals_and_an_outage_is_drawn(desk: Desk) -> None:
    window = Window(5, 1.0)

    def script(seen: Seen) -> Any:
        return Refuses() if desk.clock.monotonic > 1010 else Says(503) if seen.number % 9 == 0 else window(seen)

    desk.server.script = script
    ran = desk.run([(f"c{at}@x.com", f"SN-{at}", "assign") for at in range(200)], give_up_after="30s")
    html = (ran.folder / "report.html").read_text()
    assert ran.json["state"] == "stopped"
    for drawn in ("f-answered", "f-throttled", "f-unclear", "f-unsent", "b-down", "b-waiting", "ceiling"):
        assert f'class="{drawn}"' in html
    assert "report.html" in ran.json["files"]


def test_the_page_of_a_finished_run_is_reproducible(desk: Desk) -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-1", "unassign"), (A, "", "assign")]
    first = (desk.run(rows).folder / "report.html").read_bytes()
    assert (desk.run(rows).folder / "report.html").read_bytes() == first


# Hostile cells

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    f"SN-{RLO}gnp.exe",
    "{{ 7 * 7 }}{% raw %}",
    "</style></title><svg/onload=alert(1)>",
    "&lt;b&gt;",
    "x" * 100_000,
    "\x00\x1b[31m\u2028",
]


def hostile_rows(address: str = "http://127.0.0.1:9") -> list[Row]:
    cells = [
        *HOSTILE,
        f'"><img src="{address}/img">',
        f'"><link rel=stylesheet href={address}/css>',
        f"url({address}/u)",
    ]
    emails = [f"{cell}@x.com" for cell in cells]
    moves = [(email, f"SN-{at}", "unassign") for at, email in enumerate(emails)]
    gifts = [(A, f"SN-{at}", "assign") for at in range(len(emails))]
    wrong = [(cell, cell, "assign", "EMAIL") for cell in cells]
    return [*moves, *gifts, *wrong, *((A, cell, "assign") for cell in cells)]


def hostile_page(path: Path, address: str = "http://127.0.0.1:9") -> None:
    """A page with hostile texts in every place that is filled from outside."""
    rows = hostile_rows(address)
    texts = [row[1] for row in rows[-len(HOSTILE) - 3 :]]
    ends = {(A, text, "assign"): failed(f"400: {text}") for text in texts}
    result = reconcile(planned(rows), ends, created=[row[0] for row in rows])
    file = replace(file_of(name=texts[1]), path=texts[9], columns={"customerEmail": texts[0]}, warnings=tuple(texts))
    page = page_of(
        result,
        file,
        timeline=Timeline(
            0.0, 9.0, 0.5, [(at, what, 3) for at in range(9) for what in ("answered", "throttled", "hold")]
        ),
        runId=texts[0],
        baseUrl="javascript:alert(1)",
        stop={"reason": texts[1], "advice": texts[10]},
        options={texts[0]: texts[1], "column": texts},
        events=[{"at": "2026-01-01T00:00:00.000Z", "kind": texts[0], "text": text} for text in texts],
    )
    write_html(path, page, [block_of(keys_of(rows), [row[:3] for row in rows])])


class Elements(HTMLParser):
    """Collects every element of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    hostile_page(tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_hostile_cells_are_escaped(hostile: str) -> None:
    elements = Elements(hostile)
    assert len(elements.named("script")) == 1
    assert elements.named("img", "link", "iframe", "object", "form", "base") == []
    assert [name for _, attributes in elements.found for name in attributes if name.startswith("on")] == []
    links = [attributes["href"] or "" for attributes in elements.named("a")]
    assert links
    assert all(re.fullmatch(r"#[a-z]+|[a-z0-9.]+", link) for link in links)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile
    assert "{{ 7 * 7 }}" in hostile


def test_invisible_and_direction_changing_characters_are_escaped(hostile: str) -> None:
    assert RLO not in hostile
    assert r"SN-\u202egnp.exe" in hostile
    assert not re.search("[\x00\x1b\u2028]", hostile)


def test_a_very_long_cell_is_cut(hostile: str) -> None:
    assert "x" * 200 not in hostile
    assert len(hostile) < 200_000


def test_the_page_allows_its_own_script_and_nothing_else(hostile: str) -> None:
    policy = next(one["content"] for one in Elements(hostile).named("meta") if "http-equiv" in one) or ""
    script = hostile[hostile.index("<script>") + 8 : hostile.index("</script>")]
    fingerprint = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{fingerprint}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


# Accessibility


def test_the_page_has_landmarks_labels_and_scopes(hostile: str) -> None:
    elements = Elements(hostile)
    tags = Counter(tag for tag, _ in elements.found)
    assert (tags["h1"], tags["main"], tags["header"], tags["nav"], tags["footer"]) == (1, 1, 1, 1, 1)
    assert elements.named("th")
    assert all("scope" in one for one in elements.named("th"))
    ids = [one["id"] for _, one in elements.found if "id" in one]
    assert len(ids) == len(set(ids))
    labels = [one["aria-labelledby"] for one in elements.named("section", "svg") if "aria-labelledby" in one]
    assert set(" ".join(filter(None, labels)).split()) <= set(ids)
    assert len(elements.named("section")) == 8
    assert {one["for"] for one in elements.named("label")} == {one["id"] for one in elements.named("input")}


def test_without_script_the_page_is_complete_and_shows_no_dead_control(hostile: str) -> None:
    tools = [one for _, one in Elements(hostile).found if "tool" in (one.get("class") or "").split()]
    assert tools
    assert all("hidden" in one for one in tools)
    assert 'class="cause" hidden' not in hostile
