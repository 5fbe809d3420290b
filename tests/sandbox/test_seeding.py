"""A seeded fleet lets the first run of its files succeed."""

from collections import Counter
from pathlib import Path

import pytest

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.sandbox.seeding import seed_from_files
from telemetron_batch.sandbox.state import SandboxState
from tests.conftest import Desk

PLAIN = InputOptions()
ROWS = [
    ("a@x.com", "SN-1", "unassign"),
    ("b@x.com", "SN-1", "assign"),
    ("b@x.com", "SN-2", "assign"),
    ("b@x.com", "SN-2", "unassign"),
    ("c@x.com", "UNKNOWN-3", "unassign"),
    ("d@x.com", "UNKNOWN-4", "assign"),
    *((f"e{n}@x.com", f"SN-{n}", ("assign", "unassign")[n % 2]) for n in range(100, 300)),
]


def seed(state: SandboxState, *files: str, options: InputOptions = PLAIN) -> str:
    return seed_from_files(state, files, options)


def test_a_first_run_of_the_file_succeeds_in_every_row(desk: Desk) -> None:
    path = desk.file(ROWS)
    assert seed(desk.server.fleet, path) == "the fleet fits 206 valid rows; 0 invalid rows count for nothing"
    ran = desk.run(path)
    assert ran.summary.exit_code == 0
    assert Counter(ran.outcomes) == {"assigned": 103, "unassigned": 103}
    assert "true" not in {row["customerWasCreated"] for row in ran.rows}


def test_several_files_make_one_fleet(desk: Desk) -> None:
    parts = [desk.file(ROWS[:1], "a.csv"), desk.file(ROWS[1:], "b.csv")]
    seed(desk.server.fleet, *parts)
    assert desk.run(desk.file(ROWS)).summary.exit_code == 0


def test_a_pair_is_seeded_only_once_so_a_kept_state_stays_as_runs_left_it(desk: Desk) -> None:
    path = desk.file(ROWS[:1])
    with SandboxState(desk.folder / "kept.db") as state:
        seed(state, path)
        state.unassign("a@x.com", ["SN-1"])
    with SandboxState(desk.folder / "kept.db") as state:
        seed(state, path)
        assert state.devices_of("a@x.com") == []


def test_invalid_rows_count_for_nothing(desk: Desk) -> None:
    text = "customerEmail,deviceIdentifier,action\na@x.com,SN-1,unassign\nnobody,SN-2,unassign\n"
    assert seed(desk.server.fleet, desk.file(text)).endswith("1 invalid rows count for nothing")
    with pytest.raises(InputError, match="has no valid row; look at its plan"):
        seed(desk.server.fleet, desk.file(text.replace("a@x.com", "a"), "none.csv"))


def test_the_options_of_the_input_say_how_to_read_the_file(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "erp.csv").write_text("Kunde;Serial\na@x.com;SN-1\n")
    options = InputOptions(columns={"customerEmail": "Kunde"}, action=Action.UNASSIGN)
    seed(desk.server.fleet, str(tmp_path / "erp.csv"), options=options)
    assert desk.server.fleet.devices_of("a@x.com") == ["SN-1"]


def test_a_file_that_is_read_twice_for_its_rounded_serials_is_seeded_once(desk: Desk) -> None:
    rounded = [("a@x.com", f"8944500102198{n}00000", "unassign") for n in range(10, 30)]
    path = desk.file([*rounded, ("b@x.com", "8944500102198312345", "unassign")])
    assert seed(desk.server.fleet, path) == "the fleet fits 1 valid rows; 20 invalid rows count for nothing"
