"""`verify` and `run --verify`: what queries settle, and that they change nothing."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from python_calamine import CalamineWorkbook

from telemetron_batch.domain.errors import ConfigError, JournalError, LockedError, VerifyError
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.run import pipeline
from telemetron_batch.sharding.report import report_run
from telemetron_batch.storage.lock import Lock, LockOwner
from tests.conftest import KEY, Desk, Ran
from tests.support.scripted import BASE_URL, Hangs, Loses, Refuses, Rewrites, Says, Seen

A, B, C = "a@x.com", "b@x.com", "c@x.com"
ROWS = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (B, "SN-3", "unassign")]
FILES = ("reconciliation.csv", "attention.csv", "undo.csv", "summary.json", "report.html")


def losing(customer: str, *, acted: bool) -> Any:
    """Lose every answer to a bulk request of this customer."""
    return lambda seen: Loses(acted) if seen.customer == customer else None


def queries(desk: Desk) -> list[str]:
    """Return the queried customers in order."""
    return [str(seen.body["email"]) for seen in desk.server.seen if seen.action == "query"]


def told(ran: Ran) -> list[tuple[str, str]]:
    return [(row["outcome"], row["verified"]) for row in ran.rows]


def ended_unconfirmed(desk: Desk, *rows: tuple[str, str, str], acted: bool, **flags: Any) -> Ran:
    """Run these rows; all answers about A are lost."""
    first = (C, "SN-9", rows[0][2])
    if first[2] == "unassign":
        desk.server.fleet.assign(C, ["SN-9"])
    desk.server.script = losing(A, acted=acted)
    ran = desk.run([first, *rows], attempts="2", **flags)
    desk.server.script = lambda _: None
    assert "unconfirmed" in ran.outcomes
    return ran


# What is asked


def test_each_customer_of_a_sent_call_is_queried_once(desk: Desk) -> None:
    desk.server.fleet.assign(B, ["SN-3"])
    desk.verify(desk.run([*ROWS, (A, "SN-1", "assign"), (C, "#REF!", "assign")]))
    assert sorted(queries(desk)) == [A, B]


def test_a_customer_for_whom_a_query_proves_nothing_is_not_queried(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(400, {"error": "Invalid email format"}) if seen.customer == B else None
    desk.verify(desk.run([(A, "SN-1", "assign"), (B, "SN-2", "assign")]))
    assert queries(desk) == [A]


def test_queries_keep_the_rate(desk: Desk) -> None:
    ran = desk.run([(f"user{number:02}@x.com", "SN-1", "assign") for number in range(20)], rate="2/s")
    desk.verify(ran)
    assert len(desk.server.seen) == 40
    assert desk.server.seen[-1].at - desk.server.seen[20].at >= 9


def test_a_run_without_verify_sends_no_query_and_has_no_such_column(desk: Desk) -> None:
    ran = desk.run(ROWS)
    assert queries(desk) == []
    assert "verified" not in ran.rows[0]
    assert "verify" not in ran.json


def test_the_column_stands_after_ours_and_before_the_inputs_own(desk: Desk) -> None:
    path = desk.file("customerEmail,deviceIdentifier,action,verified,Order\na@x.com,SN-1,assign,who knows,77\n")
    ran = desk.run(path)
    assert [*ran.rows[0]][14:] == ["answeredAt", "devicesRemaining", "verified", "Order"]
    assert ran.rows[0]["verified"] == "who knows"
    row = desk.verify(ran).rows[0]
    assert [*row][14:] == ["answeredAt", "devicesRemaining", "verified", "verified (input)", "Order"]
    assert (row["verified"], row["verified (input)"]) == ("yes", "who knows")


# What a look can claim


def test_a_holding_that_matches_the_outcome_is_verified(desk: Desk) -> None:
    desk.server.fleet.assign(B, ["SN-3"])
    desk.server.fleet.assign(A, ["SN-2"])
    rows = [*ROWS, (B, "SN-4", "unassign"), (A, "UNKNOWN-1", "assign"), (A, "SN-1", "assign"), (A, "", "assign")]
    ran = desk.verify(desk.run(rows))
    assert told(ran) == [
        ("assigned", "yes"),
        ("alreadyAssigned", "yes"),
        ("unassigned", "yes"),
        ("skipped", "yes"),
        ("skipped", "yes"),
        ("duplicate", ""),
        ("invalid", ""),
    ]


def test_what_others_changed_since_wants_attention_and_keeps_its_outcome(desk: Desk) -> None:
    desk.server.fleet.assign(B, ["SN-3"])
    ran = desk.run(ROWS)
    assert ran.summary.exit_code == 0
    desk.server.fleet.unassign(A, ["SN-1"])
    desk.server.fleet.assign(B, ["SN-3"])
    ran = desk.verify(ran)
    assert told(ran) == [("assigned", "no"), ("assigned", "yes"), ("unassigned", "no")]
    assert ran.rows[0]["detail"] == "but asked afterwards, the API does not have it with the customer"
    assert ran.rows[2]["detail"] == "but asked afterwards, the API has it with the customer"
    assert (ran.summary.exit_code, ran.json["attention"]) == (1, 2)
    assert ran.json["attentionByOutcome"] == {"assigned": 1, "unassigned": 1}
    assert ran.json["verify"]["rows"] == {"yes": 1, "no": 2, "blank": 0}
    with (ran.folder / "attention.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["deviceIdentifier"] for row in csv.DictReader(file)] == ["SN-1", "SN-3"]
    page = (ran.folder / "report.html").read_text()
    assert '<h2 id="h-verify">Verification</h2>' in page
    assert "not with the customer" in page


def test_tolerating_an_outcome_does_not_tolerate_what_differs(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")], tolerate=["assigned", "failed"])
    desk.server.fleet.unassign(A, ["SN-1"])
    assert desk.verify(ran).summary.exit_code == 1


@pytest.mark.parametrize(
    ("action", "held_before", "acted", "outcome"),
    [
        ("assign", False, True, "alreadyAssigned"),
        ("assign", True, True, "alreadyAssigned"),
        ("assign", False, False, "failed"),
        ("unassign", True, True, "skipped"),
        ("unassign", False, True, "skipped"),
        ("unassign", True, False, "failed"),
    ],
)
def test_an_unconfirmed_row_becomes_what_the_api_holds(
    desk: Desk, action: str, held_before: bool, acted: bool, outcome: str
) -> None:
    desk.server.fleet.assign(A, ["SN-0", *(["SN-1"] if held_before else [])])
    ran = desk.verify(ended_unconfirmed(desk, (A, "SN-1", action), acted=acted))
    row = ran.rows[1]
    assert (row["outcome"], row["verified"]) == (outcome, "yes")
    assert "asked afterwards, the API" in row["detail"]
    assert ("may be this run's own work" in row["detail"]) == (outcome != "failed")
    assert ran.json["verify"]["rowsSettled"] == 1
    assert ran.summary.exit_code == (1 if outcome == "failed" else 0)
    undo = (ran.folder / "undo.csv").read_text()
    assert "SN-1" not in undo


@pytest.mark.parametrize(
    ("action", "held_before", "outcome"),
    [
        ("assign", False, "assigned"),
        ("assign", True, "alreadyAssigned"),
        ("unassign", True, "unassigned"),
        ("unassign", False, "skipped"),
    ],
)
def test_with_a_baseline_it_is_known_whose_work_it_was(
    desk: Desk, action: str, held_before: bool, outcome: str
) -> None:
    desk.server.fleet.assign(A, ["SN-0", *(["SN-1"] if held_before else [])])
    ran = desk.verify(ended_unconfirmed(desk, (A, "SN-1", action), acted=True, baseline=True))
    row = ran.rows[1]
    assert (row["outcome"], row["verified"]) == (outcome, "yes")
    assert "may be" not in row["detail"]
    assert ("SN-1" in (ran.folder / "undo.csv").read_text()) == (outcome in ("assigned", "unassigned"))


def test_a_customer_unknown_to_the_api_holds_nothing(desk: Desk) -> None:
    ran = desk.verify(ended_unconfirmed(desk, (A, "SN-1", "assign"), acted=False))
    assert desk.server.fleet.customer(A) is None
    assert told(ran)[1] == ("failed", "yes")


@pytest.mark.parametrize(
    "words",
    [
        "Customer not found in your organization",
        "customer a@x.com was not found",
        "Customer with email a@x.com does not exist",
        "No such customer",
    ],
)
def test_an_unknown_customer_is_recognised_in_several_phrases(desk: Desk, words: str) -> None:
    ran = ended_unconfirmed(desk, (A, "SN-1", "assign"), acted=False)
    desk.server.script = lambda seen: Says(404, {"error": words}) if seen.body.get("email") == A else None
    assert told(desk.verify(ran))[1] == ("failed", "yes")


def test_only_the_last_row_of_a_pair_is_judged(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign"), (A, "SN-1", "unassign"), (A, "SN-1", "assign")])
    assert told(desk.verify(ran)) == [("assigned", ""), ("unassigned", ""), ("assigned", "yes")]


def test_a_row_before_the_last_is_settled_by_what_the_next_one_found(desk: Desk) -> None:
    desk.server.script = lambda seen: Hangs(acted=True) if seen.action == "assign" else None
    ran = desk.run([(C, "SN-9", "unassign"), (A, "SN-1", "assign"), (A, "SN-1", "unassign")], attempts="1")
    assert ran.outcomes == ["failed", "unconfirmed", "unassigned"]
    row = desk.verify(ran).rows[1]
    assert (row["outcome"], row["verified"]) == ("alreadyAssigned", "")
    assert "a later row found the customer with it" in row["detail"]


def test_rows_of_a_pair_that_all_went_unanswered_stay_open_but_for_the_last(desk: Desk) -> None:
    ran = ended_unconfirmed(desk, (A, "SN-1", "assign"), (A, "SN-1", "unassign"), acted=True)
    ran = desk.verify(ran)
    assert told(ran)[1:] == [("unconfirmed", ""), ("skipped", "yes")]
    assert "later rows are about the same device" in ran.rows[1]["detail"]


def test_a_row_refused_after_a_doubt_becomes_what_the_api_holds(desk: Desk) -> None:
    events = iter([Loses(acted=True), Says(400, {"error": "A device is wrong"})])
    desk.server.script = lambda seen: next(events, None) if seen.action == "assign" else None
    ran = desk.run([(A, "SN-1", "assign")])
    assert (ran.outcomes, ran.rows[0]["unclearAttempts"]) == (["unconfirmed"], "1")
    ran = desk.verify(ran)
    assert told(ran) == [("alreadyAssigned", "yes")]
    assert "may have been carried out" not in ran.rows[0]["detail"]


def test_an_identifier_in_other_case_proves_nothing(desk: Desk) -> None:
    ran = ended_unconfirmed(desk, (A, "SN-1", "assign"), acted=False)
    desk.server.fleet.assign(A, ["sn-1"])
    ran = desk.verify(ran)
    assert told(ran)[1] == ("unconfirmed", "")
    assert "spelled otherwise" in ran.rows[1]["detail"]


@pytest.mark.parametrize("action", ["assign", "unassign"])
@pytest.mark.parametrize("spelling", ["AABBCC", "aa-bb-cc", "\uff41\uff41:bb:cc"])
def test_the_same_letters_and_digits_in_another_spelling_prove_nothing(desk: Desk, action: str, spelling: str) -> None:
    ran = ended_unconfirmed(desk, (A, "aa:bb:cc", action), acted=False)
    desk.server.fleet.assign(A, [spelling])
    ran = desk.verify(ran)
    assert told(ran)[1] == ("unconfirmed", "")
    assert "spelled otherwise" in ran.rows[1]["detail"]


def test_an_identifier_spelled_as_another_row_spells_it_is_that_rows(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["sn-1"])
    ran = desk.run([(A, "sn-1", "assign"), (A, "SN-1", "unassign")])
    assert told(desk.verify(ran)) == [("alreadyAssigned", "yes"), ("skipped", "yes")]


def test_identifiers_are_joined_trimmed(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    desk.server.script = lambda _: Rewrites(lambda said: said | {"devices": [" SN-1 "]})
    assert told(desk.verify(ran)) == [("assigned", "yes")]


def test_a_query_waits_until_no_attempt_can_act_any_more(desk: Desk) -> None:
    desk.server.script = losing(A, acted=False)
    ran = desk.run([(C, "SN-9", "assign"), (A, "SN-1", "assign")], attempts="2", timeout="60", verify=True)
    left = max(seen.at for seen in desk.server.seen if seen.customer == A)
    asked = next(seen.at for seen in desk.server.seen if seen.body.get("email") == A)
    assert asked > left + 64.9  # it may leave up to 0.05 s after its record
    assert told(ran)[1] == ("failed", "yes")


# Odd answers, and an API that is not there


@pytest.mark.parametrize(
    "odd",
    [
        Says(200, {"id": "1", "devices": None}),
        Says(200, {"devices": ["SN-1", 7]}),
        Says(200, {"email": B, "devices": ["SN-1"]}),
        Says(200, b"<html>"),
        Says(404, b"<html>no such page</html>"),
        Says(404, {"error": "Cannot POST /api/ext-v1/customer/queryCustomer"}),
        Says(404, {"error": "Route POST:/customer not found"}),
        Says(404, {"message": "The customer service was not found"}),
        Says(500, {"error": "Internal server error"}),
        Says(400, {"error": "something"}),
    ],
)
def test_an_odd_answer_supports_no_claim(desk: Desk, odd: Says) -> None:
    ran = ended_unconfirmed(desk, (A, "SN-1", "assign"), acted=True)
    desk.server.script = lambda seen: odd if seen.body.get("email") == A else None
    ran = desk.verify(ran)
    assert told(ran) == [("assigned", "yes"), ("unconfirmed", "")]
    assert "the API did not say what the customer holds" in ran.rows[1]["detail"]
    assert ran.json["verify"]["customersMissed"] == 1
    assert ran.summary.exit_code == 1


def test_a_failed_query_wants_attention_though_all_rows_are_well(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    desk.server.script = lambda _: Says(400, {"error": "something"})
    ran = desk.verify(ran)
    assert (ran.summary.exit_code, ran.json["attention"]) == (1, 0)
    assert any("could not be asked" in event["text"] for event in ran.json["events"])


@pytest.mark.parametrize(
    ("event", "code"),
    [(Refuses(), ExitCode.STOPPED), (Says(401, {"error": "no"}), 4), (Says(307, None, {"Location": "/x"}), 4)],
)
def test_a_dead_or_hostile_api_ends_it_and_the_files_are_as_they_were(desk: Desk, event: Any, code: int) -> None:
    ran = desk.run(ROWS)
    before = {name: (ran.folder / name).read_bytes() for name in FILES}
    desk.server.script = lambda _: event
    with pytest.raises(VerifyError, match="verify stopped") as caught:
        desk.verify(ran)
    assert caught.value.exit_code == code
    assert {name: (ran.folder / name).read_bytes() for name in FILES} == before


def test_an_outage_ends_it_and_the_same_again_goes_on(desk: Desk) -> None:
    rows = [(f"user{number:02}@x.com", "SN-1", "assign") for number in range(30)]
    ran = desk.run(rows, give_up_after="2m", concurrency="1")
    desk.server.script = lambda seen: None if seen.number <= 40 else Refuses()
    with pytest.raises(VerifyError, match="down"):
        desk.verify(ran)
    desk.server.script = lambda _: None
    ran = desk.verify(ran)
    assert told(ran) == [("assigned", "yes")] * 30
    assert max(Counter(queries(desk)).values()) == 1


class Death(BaseException):
    """The process dies."""


def test_a_killed_verify_goes_on_where_it_ended(desk: Desk) -> None:
    rows = [(f"user{number:02}@x.com", "SN-1", "assign") for number in range(30)]
    ran = desk.run(rows, concurrency="2")

    def die_on_the_way(seen: Seen) -> None:
        if seen.number == 45:
            raise Death

    desk.server.script = die_on_the_way
    with pytest.raises((Death, BaseExceptionGroup)):
        desk.verify(ran)
    assert "verified" not in ran.rows[0]
    desk.server.script = lambda _: None
    ran = desk.verify(ran)
    assert told(ran) == [("assigned", "yes")] * 30
    assert len(desk.server.seen) <= 30 + 30 + 2


def test_verify_again_asks_afresh(desk: Desk) -> None:
    ran = desk.verify(desk.run([(A, "SN-1", "assign")]))
    assert (told(ran), ran.summary.exit_code) == ([("assigned", "yes")], 0)
    desk.server.fleet.unassign(A, ["SN-1"])
    ran = desk.verify(ran)
    assert (told(ran), ran.summary.exit_code) == ([("assigned", "no")], 1)
    desk.server.fleet.assign(A, ["SN-1"])
    assert desk.verify(ran).summary.exit_code == 0
    assert queries(desk) == [A, A, A]


def test_what_was_learnt_once_stands_where_it_cannot_be_learnt_again(desk: Desk) -> None:
    ran = desk.verify(ended_unconfirmed(desk, (A, "SN-1", "assign"), acted=True))
    desk.server.script = lambda _: Says(400, {"error": "something"})
    ran = desk.verify(ran)
    assert told(ran) == [("assigned", "yes"), ("alreadyAssigned", "yes")]
    assert (ran.summary.exit_code, ran.json["verify"]["customersMissed"]) == (1, 2)


# At the end of a run, and after it


def test_run_verify_does_it_at_the_end(desk: Desk) -> None:
    ran = desk.run(ROWS, verify=True)
    assert [row["verified"] for row in ran.rows] == ["yes", "yes", ""]
    assert [seen.action for seen in desk.server.seen][-1] == "query"
    assert ran.summary.exit_code == 1  # B is unknown, and so its row failed


def test_a_run_stopped_while_it_verifies_goes_on_there(desk: Desk) -> None:
    rows = [(f"user{number:02}@x.com", "SN-1", "assign") for number in range(30)]
    flags: dict[str, Any] = {"verify": True, "give_up_after": "2m", "concurrency": "1"}
    desk.server.script = lambda seen: None if seen.number <= 40 else Refuses()
    ran = desk.run(rows, **flags)
    assert (ran.summary.exit_code, ran.json["state"]) == (3, "stopped")
    assert ran.json["counts"]["assigned"] == 30
    desk.server.script = lambda _: None
    ran = desk.run(rows, **flags)
    assert (ran.summary.exit_code, ran.json["state"]) == (0, "finished")
    assert told(ran) == [("assigned", "yes")] * 30
    assert len(desk.server.seen) == 60


def test_verify_makes_up_for_what_run_verify_could_not_do(desk: Desk) -> None:
    rows = [(f"user{number:02}@x.com", "SN-1", "assign") for number in range(30)]
    desk.server.script = lambda seen: None if seen.number <= 40 else Refuses()
    ran = desk.run(rows, verify=True, give_up_after="2m", concurrency="1")
    desk.server.script = lambda _: None
    ran = desk.verify(ran)
    assert (ran.summary.exit_code, ran.json["state"], ran.json["stop"]) == (0, "finished", None)


def test_a_stopped_run_can_be_verified_and_still_goes_on(desk: Desk) -> None:
    rows = [(f"user{number:02}@x.com", "SN-1", "assign") for number in range(30)]
    desk.server.script = lambda seen: None if seen.number <= 10 else Refuses()
    ran = desk.run(rows, give_up_after="2m", attempts="20")
    assert ran.outcomes.count("notSent") == 20
    desk.server.script = lambda _: None
    ran = desk.verify(ran)
    assert Counter(told(ran)) == {("assigned", "yes"): 10, ("notSent", ""): 20}
    assert (ran.summary.exit_code, ran.json["state"]) == (3, "stopped")
    ran = desk.run(rows)
    assert Counter(told(ran)) == {("assigned", "yes"): 10, ("assigned", ""): 20}
    assert ran.summary.exit_code == 0


def test_a_row_sent_after_a_query_is_not_judged_by_it(desk: Desk) -> None:
    desk.server.script = lambda seen: None if seen.customer == C else Hangs(acted=False)
    ran = desk.run([(C, "SN-9", "assign"), (A, "SN-1", "assign")], deadline="40")
    assert ran.outcomes == ["assigned", "unconfirmed"]
    desk.server.script = lambda _: None
    ran = desk.verify(ran)
    assert told(ran) == [("assigned", "yes"), ("failed", "yes")]
    assert told(desk.run([(C, "SN-9", "assign"), (A, "SN-1", "assign")])) == [("assigned", "yes"), ("assigned", "")]


def test_a_finished_run_exits_as_its_verify_left_it(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    desk.server.fleet.unassign(A, ["SN-1"])
    desk.verify(ran)
    before = (ran.folder / "reconciliation.csv").read_bytes()
    assert desk.run([(A, "SN-1", "assign")]).summary.exit_code == 1
    assert (ran.folder / "reconciliation.csv").read_bytes() == before


def test_report_writes_the_same_again_from_the_journal_alone(desk: Desk) -> None:
    ran = desk.verify(ended_unconfirmed(desk, (A, "SN-1", "assign"), acted=True))
    before = {name: (ran.folder / name).read_bytes() for name in FILES}
    for name in FILES:
        (ran.folder / name).unlink()
    report_run(ran.folder)
    assert {name: (ran.folder / name).read_bytes() for name in FILES} == before


def test_a_run_of_before_there_was_verify_can_be_verified(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    assert b"CREATE TABLE IF NOT EXISTS looks" not in (ran.folder / "journal.sqlite3").read_bytes()
    assert told(desk.verify(ran)) == [("assigned", "yes")]


def test_what_differs_is_sent_again_by_the_next_run_that_leaves_out_what_is_settled(desk: Desk) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign")]
    ran = desk.run(rows, since_last=True)
    desk.server.fleet.unassign(A, ["SN-1"])
    assert told(desk.verify(ran)) == [("assigned", "no"), ("assigned", "yes")]
    ran = desk.run(rows, since_last=True, run_id="r2")
    assert ran.outcomes == ["assigned", "unchanged"]
    assert told(desk.verify(ran)) == [("assigned", "yes"), ("unchanged", "")]


def test_the_workbook_has_the_column_too(desk: Desk) -> None:
    pytest.importorskip("xlsxwriter")
    ran = desk.verify(desk.run([(A, "SN-1", "assign")], xlsx=True))
    sheets = CalamineWorkbook.from_path(ran.folder / "reconciliation.xlsx")
    header, row = sheets.get_sheet_by_index(0).to_python()[:2]
    assert row[header.index("verified")] == "yes"


def test_a_run_without_calls_has_nothing_to_ask(desk: Desk) -> None:
    ran = desk.verify(desk.run([(A, "", "assign")]))
    assert (queries(desk), ran.outcomes, ran.summary.exit_code) == ([], ["invalid"], 1)


# Locks and keys


def test_a_run_that_is_under_way_is_not_verified(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    lock = Lock.acquire(ran.folder / "run.lock", LockOwner(1, "now", "r1"), "run r1")
    with pytest.raises(LockedError):
        desk.verify(ran)
    lock.release()


def test_without_a_key_or_a_run_the_error_says_so(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    with pytest.raises(ConfigError, match="API key"):
        pipeline.verify(ran.folder, {"TELEMETRON_BASE_URL": BASE_URL}, transport=desk.server, clock=desk.clock)
    with pytest.raises(JournalError, match="no run"):
        pipeline.verify(Path("nowhere"), {"TELEMETRON_API_KEY": KEY})


def test_a_baseline_is_not_read_after_the_customer_was_written_to(desk: Desk) -> None:
    def script(seen: Seen) -> Any:
        first_look = seen.action == "query" and len([s for s in desk.server.seen if s.action == "query"]) == 0
        return Says(400, {"error": "something"}) if first_look else None

    desk.server.script = script
    ran = desk.run([(A, "SN-1", "assign"), (A, "SN-2", "assign")], baseline=True, chunk_size="1")
    assert ran.outcomes == ["assigned", "assigned"]
    assert queries(desk) == [A]
    assert json.loads((ran.folder / "summary.json").read_text())["balanced"]
