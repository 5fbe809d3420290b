"""The files of a run can be run: attention.csv settles open rows, undo.csv takes changes back.

The whole program runs with any file and any history of faults; results are compared with the server.
"""

import csv
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import InputError
from telemetron_batch.run import pipeline
from tests.conftest import KEY, Desk, Ran
from tests.support.books import read_rows
from tests.support.builders import A, B, C
from tests.support.crashing import Acts
from tests.support.scripted import BASE_URL, Event, Loses, Refuses, Says, once

Row = tuple[str, str, str]
Pair = tuple[str, str]

CUSTOMERS = (A, B, C)
DEVICES = ("SN-1", "SN-2", "0012", 'SN "3"', "SN;4,|", "-4A", "=A1", "'5", "UNKNOWN-1")
EVENTS: tuple[Event, ...] = (
    None,
    None,
    Loses(acted=True),
    Loses(acted=False),
    Refuses(),
    Says(500, {"error": "Internal server error"}),
    Acts(Says(502, b"<html>Bad Gateway</html>")),
    Says(429, {"error": "Too many requests"}),
    Says(400, {"error": "The customer is locked"}),
)
SETTLED = ("assigned", "alreadyAssigned", "unassigned", "skipped", "duplicate")
ODD = st.text(alphabet="ab1,;\"'\n\t =+-@|é😀", max_size=6)


@dataclass(frozen=True)
class World:
    """A file as an ERP may write it, the state of the server before it, and the faults of the run."""

    rows: Sequence[Row]
    held: frozenset[Pair] = frozenset()
    events: Sequence[Event] = ()
    delimiter: str = ","
    line_end: str = "\n"
    headers: tuple[str, str, str] = ("customerEmail", "deviceIdentifier", "action")
    action: str | None = None
    """The action of all rows: then there is no column for it."""
    words: tuple[str, str] = ("assign", "unassign")
    others: Sequence[str] = ()
    """Cells of the other column, row by row as far as they go."""
    titled: bool = False
    flags: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator=self.line_end)
        if self.titled:
            writer.writerow(["Export of the night"])
        writer.writerow(["note", *self.headers[: 2 if self.action else 3], '+"odd"'])
        for at, (customer, device, action) in enumerate(self.rows):
            word = [] if self.action else [self.words[action == "unassign"]]
            other = self.others[at] if at < len(self.others) else ""
            writer.writerow([other, customer, device, *word, other[::-1]])
        return out.getvalue()

    def options(self) -> dict[str, Any]:
        """Those that describe the file: given again whenever something is fed back."""
        names = zip(("customerEmail", "deviceIdentifier", "action"), self.headers, strict=True)
        column = [f"{name}={header}" for name, header in names if header != name and not self.action]
        column = column or [f"customerEmail={self.headers[0]}", f"deviceIdentifier={self.headers[1]}"]
        meant = [f"{word}={action}" for word, action in zip(self.words, ("assign", "unassign"), strict=True)]
        return {"column": column, "action_word": meant, "action": self.action, "allow_suspect": True, **self.flags}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    action = draw(st.sampled_from([None, None, "assign", "unassign"]))
    actions = st.just(action) if action else st.sampled_from(["assign", "unassign"])
    pairs = st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(DEVICES))
    rows = st.tuples(st.sampled_from([*CUSTOMERS, *CUSTOMERS, "nobody"]), st.sampled_from(DEVICES), actions)
    delimiter = draw(st.sampled_from(",;\t|"))
    flags: dict[str, Any] = {
        "chunk_size": draw(st.sampled_from(["1", "2", "500"])),
        "baseline": draw(st.booleans()),
        "raw_csv": draw(st.booleans()),
        "delimiter": draw(st.sampled_from([None, delimiter])),
        "encoding": draw(st.sampled_from([None, "utf-8"])),
    }
    return World(
        rows=draw(st.lists(rows, min_size=1, max_size=10)),
        held=draw(st.frozensets(pairs.filter(lambda pair: not pair[1].startswith("UNKNOWN")), max_size=8)),
        events=draw(st.lists(st.sampled_from(EVENTS), max_size=8)),
        delimiter=delimiter,
        line_end=draw(st.sampled_from(["\n", "\r\n"])),
        headers=draw(
            st.sampled_from(
                [("customerEmail", "deviceIdentifier", "action"), ("Kunde", "Serial No", "-Art"), ("@K", "=S", "W")]
            )
        ),
        action=action,
        words=draw(st.sampled_from([("assign", "unassign"), ("Zugang", "Abgang"), ("+", "-")])),
        others=draw(st.lists(ODD, max_size=10)),
        titled=draw(st.booleans()),
        flags=flags,
    )


@contextmanager
def desk_of(world: World) -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        for customer, device in sorted(world.held):
            desk.server.fleet.assign(customer, [device])
        desk.server.script = once(*world.events)
        yield desk
        desk.server.fleet.close()


def holdings(desk: Desk) -> set[Pair]:
    return {(customer, device) for customer in CUSTOMERS for device in desk.server.fleet.devices_of(customer)}


def read(path: Path) -> list[dict[str, str]]:
    return read_rows(path, "utf-8-sig")


def pair_of(row: dict[str, str]) -> Pair:
    """Return the value as sent, without the guard against formulas."""
    customer, device = (re.sub("^'(?=[=+@-])", "", row[key]) for key in ("customerEmail", "deviceIdentifier"))
    return customer, device


def is_unclear(row: dict[str, str]) -> bool:
    return row["outcome"] == "unconfirmed" or "an earlier attempt went unanswered" in row["detail"]


def listed(ran: Ran) -> set[str]:
    """Return the lines that undo.csv leaves out according to the page."""
    page = (ran.folder / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="undo"') : page.index('<section id="timeline"')]
    return {*re.findall(r'<th scope="row"><bdi>(\d+)</bdi>', section)}


def first_run(desk: Desk, world: World) -> Ran:
    return desk.run(desk.file(world.text(), "export.csv"), give_up_after="1h", **world.options())


A_TO_B_TO_C = [(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-1", "unassign"), (C, "SN-1", "assign")]
HAD = frozenset({(A, "SN-1")})


@settings(max_examples=settings.default.max_examples * 25 // 100, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
@example(World(A_TO_B_TO_C, HAD))
@example(World(A_TO_B_TO_C, HAD, events=[Loses()]))
@example(World([(A, "SN-1", "assign"), (A, "SN-1", "unassign")], events=[Loses()]))
@example(World([(A, "SN-1", "assign"), (A, "SN-1", "unassign"), (A, "SN-1", "assign")], HAD, [None, Loses()]))
@example(World([(A, "SN-1", "assign")], action="assign", delimiter=";", flags={"delimiter": ";"}))
def test_undo_restores_the_state_before_the_run(world: World) -> None:
    with desk_of(world) as desk:
        before = holdings(desk)
        ran = first_run(desk, world)
        after = holdings(desk)
        desk.server.script = lambda _: None
        undo = read(ran.folder / "undo.csv")
        if undo:
            fed = desk.run(str(ran.folder / "undo.csv"), run_id="undo", **world.options())
            assert set(fed.outcomes) <= {*SETTLED}
        unclear = {pair_of(row) for row in ran.rows if is_unclear(row)}
        untouched = unclear - {pair_of(row) for row in undo}
        assert holdings(desk) - untouched == before - untouched
        assert holdings(desk) & untouched == after & untouched
        told = listed(ran)
        assert {row["line"] for row in ran.rows if is_unclear(row)} <= told
        surely = {row["line"] for row in ran.rows if row["outcome"] in ("assigned", "unassigned")}
        assert len(surely - told) == len(undo)


@settings(max_examples=settings.default.max_examples * 25 // 100, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
@example(World(A_TO_B_TO_C, HAD, events=[Says(400, {"error": "The customer is locked"})]))
@example(World([(A, "SN-1", "unassign"), (A, "SN-1", "assign")]))
@example(
    World(
        [(A, "\tSN-1", "assign"), (A, '="0012"', "assign")], events=[Says(400, {"error": "The customer is locked"})] * 9
    )
)
def test_running_the_attention_file_settles_exactly_its_rows(world: World) -> None:
    with desk_of(world) as desk:
        ran = first_run(desk, world)
        remove_causes(desk)
        after, seen = holdings(desk), len(desk.server.seen)
        wanting = [row for row in ran.rows if is_wanting(row)]
        if not wanting:
            return
        fed = desk.run(str(ran.folder / "attention.csv"), run_id="fed", **world.options())
        late = [is_overtaken(row, ran.rows) for row in wanting]
        assert [pair_of(row) for row in fed.rows] == [pair_of(row) for row in wanting]
        asked = ["" if so else row["action"] for so, row in zip(late, wanting, strict=True)]
        assert [row["action"] for row in fed.rows] == asked
        invalid = {pair_of(row)[1] for row in fed.rows if row["outcome"] == "invalid"}
        held = [row for row in fed.rows if row["outcome"] == "held"]
        assert {pair_of(row)[1] for row in held} <= invalid
        sent = [row for row in fed.rows if row["outcome"] not in ("invalid", "held")]
        assert {row["outcome"] for row in sent} <= {*SETTLED}
        unsent = [so or row["outcome"] == "invalid" for so, row in zip(late, wanting, strict=True)]
        assert [row["outcome"] == "invalid" for row in fed.rows] == unsent
        wanted = {pair_of(row): row["action"] == "assign" for row in sent}
        assert {(one.customer, device) for one in desk.server.seen[seen:] for device in one.devices} <= {*wanted}
        assert holdings(desk) - {*wanted} == after - {*wanted}
        assert holdings(desk) & {*wanted} == {pair for pair, held in wanted.items() if held}


# Overtaken rows

NOT_FOUND = [(A, "SN-1", "unassign"), (A, "SN-1", "assign")]
"""The first row fails because the customer is unknown; the second creates the customer."""


def test_running_the_attention_file_does_not_undo_a_later_row(desk: Desk) -> None:
    ran = desk.run([*NOT_FOUND, (B, "SN-2", "unassign")])
    assert ran.outcomes == ["failed", "assigned", "failed"]
    wanting = read(ran.folder / "attention.csv")
    assert [(row["customerEmail"], row["deviceIdentifier"], row["action"]) for row in wanting] == [
        (A, "SN-1", ""),
        (B, "SN-2", "unassign"),
    ]
    assert "overtaken: a later row" in wanting[0]["detail"]
    assert wanting[1]["detail"] == ran.rows[2]["detail"]
    assert (ran.summary.exit_code, ran.json["attention"]) == (1, 2)
    fed = desk.run(str(ran.folder / "attention.csv"), run_id="fed")
    assert fed.outcomes == ["invalid", "failed"]
    assert [*desk.server.fleet.devices_of(A)] == ["SN-1"]


def test_an_overtaken_row_is_sent_if_a_person_fills_in_its_action(desk: Desk) -> None:
    ran = desk.run(NOT_FOUND)
    path = ran.folder / "attention.csv"
    path.write_text(path.read_text().replace('"SN-1",""', '"SN-1","unassign"'))
    assert desk.run(str(path), run_id="fed").outcomes == ["unassigned"]


def test_only_a_settled_row_overtakes_an_earlier_one(desk: Desk) -> None:
    desk.server.script = lambda _: Says(400, {"error": "The customer is locked"})
    ran = desk.run([(A, "SN-1", "assign"), (A, "SN-1", "unassign"), (B, "SN-1", "assign")])
    assert [row["action"] for row in read(ran.folder / "attention.csv")] == ["assign", "unassign", "assign"]


def is_wanting(row: dict[str, str]) -> bool:
    if row["outcome"] == "skipped":
        return row["action"] == "assign" or row["detail"].startswith("no effect")
    return row["outcome"] not in SETTLED


def is_overtaken(row: dict[str, str], rows: list[dict[str, str]]) -> bool:
    """Return whether a later row of the same customer and device is where it should be."""
    of_pair = [one for one in rows if pair_of(one) == pair_of(row) and one["outcome"] not in ("duplicate", "invalid")]
    fine = [int(one["line"]) for one in of_pair if not is_wanting(one)]
    return row["outcome"] != "invalid" and int(row["line"]) < max(fine, default=0)


def remove_causes(desk: Desk) -> None:
    """Remove all faults: every customer exists and every device is known."""
    desk.server.script = lambda _: None
    for customer in CUSTOMERS:
        desk.server.fleet.assign(customer, ["SN-of-another-day"])
    desk.server.fleet.assign("somebody@else.com", ["UNKNOWN-1"], create=True)


# Profiles that describe another file

EXPORT = "Kunde;Nr;Art\nä@x.com;UNKNOWN-1;Zu\nb@x.com;SN-2;Zu\nT;2\n"
PROFILE = {
    "column": ["customerEmail=Kunde", "deviceIdentifier=Nr", "action=Art"],
    "action_word": ["Zu=assign", "Ab=unassign"],
    "delimiter": ";",
    "encoding": "cp1252",
    "trailer_count": "^T;([0-9]+)",
}


def exported(desk: Desk, name: str = "export.csv") -> str:
    path = desk.folder / name
    path.write_bytes(EXPORT.encode("cp1252"))
    return str(path)


def known(desk: Desk) -> None:
    desk.server.fleet.assign("somebody@else.com", ["UNKNOWN-1"], create=True)


def test_the_attention_file_is_read_independently_of_the_profile(desk: Desk) -> None:
    ran = desk.run(exported(desk), **PROFILE)
    known(desk)
    fed = desk.run(str(ran.folder / "attention.csv"), run_id="fed", **PROFILE)
    assert [(row["customerEmail"], row["outcome"]) for row in fed.rows] == [("ä@x.com", "assigned")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_the_attention_file_is_read_after_a_spreadsheet_has_saved_it(desk: Desk, encoding: str) -> None:
    ran = desk.run(exported(desk), **PROFILE)
    known(desk)
    text = (ran.folder / "attention.csv").read_text(encoding="utf-8-sig").replace(";", ",").replace("\n", "\r\n")
    (desk.folder / "saved.csv").write_bytes(text.encode(encoding))
    fed = desk.run(str(desk.folder / "saved.csv"), run_id="fed", **PROFILE)
    assert [(row["customerEmail"], row["outcome"]) for row in fed.rows] == [("ä@x.com", "assigned")]


def test_an_export_without_its_trailer_is_still_refused(desk: Desk) -> None:
    with pytest.raises(InputError, match="no trailer as --trailer-count describes it"):
        desk.run(desk.file(EXPORT.replace("ä", "a").rpartition("T;")[0]), **PROFILE)


def test_the_undo_file_is_read_independently_of_the_profile(desk: Desk) -> None:
    ran = desk.run(exported(desk), **PROFILE)
    assert desk.run(str(ran.folder / "undo.csv"), run_id="undo", **PROFILE).outcomes == ["unassigned"]


def test_an_action_for_all_rows_does_not_apply_to_the_undo_file(desk: Desk) -> None:
    ran = desk.run("customerEmail,deviceIdentifier\na@x.com,SN-1\n", action="assign")
    assert desk.run(str(ran.folder / "undo.csv"), run_id="undo", action="assign").outcomes == ["unassigned"]


def test_a_renamed_undo_file_is_refused_with_an_action_for_all_rows(desk: Desk) -> None:
    ran = desk.run("customerEmail,deviceIdentifier\na@x.com,SN-1\n", action="assign")
    other = shutil.copy(ran.folder / "undo.csv", desk.folder / "back.csv")
    with pytest.raises(InputError, match='says "unassign", and --action that every row is to assign; leave out'):
        desk.run(str(other), run_id="undo", action="assign")
    assert desk.run(str(other), run_id="undo", action="unassign").outcomes == ["unassigned"]


def test_the_attention_file_of_several_files_is_read_with_the_mapping_of_one(desk: Desk) -> None:
    column = ["customerEmail=Kunde", "deviceIdentifier=Nr"]
    paths = [desk.file(f"Kunde,Nr,Email\na@x.com,UNKNOWN-{at},z@x.com\n", f"{at}.csv") for at in (1, 2)]
    flags = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "two", "action": "assign"}
    config = resolve(paths, {**flags, "column": column}, {"TELEMETRON_API_KEY": KEY})
    folder = pipeline.run(config, transport=desk.server, clock=desk.clock).folder
    fed = desk.run(str(folder / "attention.csv"), run_id="fed", action="assign", column=column)
    assert [row["customerEmail"] for row in fed.rows] == [A, A]


def test_the_page_says_that_created_customers_and_devices_stay(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign"), (A, "UNKNOWN-1", "assign")], auto_create_devices=True, device_type="T")
    page = (ran.folder / "report.html").read_text(encoding="utf-8")
    assert "The API cannot remove what this run created" in page
    assert "1&nbsp;customer and 1&nbsp;device." in page
    assert "undo.csv cannot take this back" in page


def test_a_key_column_named_like_one_of_ours_is_not_confused_with_it(desk: Desk) -> None:
    column = ["deviceIdentifier=detail"]
    ran = desk.run("customerEmail,detail\na@x.com,UNKNOWN-1\n", column=column, action="assign")
    assert ran.outcomes == ["skipped"]
    with pytest.raises(InputError, match="deviceIdentifier is found 2 times"):
        desk.run(str(ran.folder / "attention.csv"), run_id="fed", column=column, action="assign")
